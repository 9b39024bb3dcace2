"""The way of an alert: fired, delivered, judged, merged, told or withheld, and how long each step takes."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.board import Section, board, per_second, quantiles, total
from grafana.panels import GREEN, RED, YELLOW, Bars, Course, Figure

UID = "sentinel-pipeline"
_INGEST = '{route="/api/v1/alerts/prometheus/webhook"}'
_REFUSED = '{route="/api/v1/alerts/prometheus/webhook", status!~"2.."}'
_JUDGED = '{outcome=~"created|session_updated|comment_added|suppressed"}'
_OURS = '{integration=~"webhook|slack"}'
_TOLD = '{decision!~"withheld:.*"}'
_WITHHELD = '{decision=~"withheld:.*"}'

FIGURES = (
    Figure("Received", "Alerts, resent ones too.", total("sentinel_alerts_received_total"), base="blue"),
    Figure(
        "Unaccounted for",
        "Alerts received without an outcome, since the webhook started. Anything but 0 is a fault of ours.",
        "abs(sum(sentinel_alerts_received_total) - sum(sentinel_alert_outcomes_total)) or vector(0)",
        limits=[(1, RED)],
    ),
    Figure(
        "Rejected",
        "Alerts that could not be understood: nobody is told of them. The trigger log says why.",
        total("sentinel_alert_outcomes_total", '{outcome="rejected"}'),
        limits=[(1, YELLOW)],
    ),
    Figure("Told", "Decisions to tell somebody.", total("sentinel_notify_decisions_total", _TOLD), base="blue"),
    Figure("Withheld", "Decisions not to.", total("sentinel_notify_decisions_total", _WITHHELD), base="blue"),
    Figure(
        "Ingestion p99",
        "Of a delivery: received, judged, committed.",
        "histogram_quantile(0.99, sum by (le) (rate(sentinel_ingest_seconds_bucket[$__rate_interval])))",
        units.Seconds,
        limits=[(0.5, YELLOW), (2, RED)],
    ),
    Figure(
        "Deliveries refused",
        "Answered with anything but 2xx. After 503 Alertmanager comes again; after 401, 403 and 413 alerts are lost.",
        total("sentinel_http_request_seconds_count", _REFUSED),
        limits=[(1, RED)],
    ),
    Figure(
        "Lost on the way",
        "Alerts that Prometheus dropped, and deliveries that Alertmanager gave up.",
        "(sum(increase(prometheus_notifications_dropped_total[$__range])) or vector(0))"
        " + (sum(increase(alertmanager_notifications_failed_total[$__range])) or vector(0))",
        limits=[(1, RED)],
    ),
)

FLOW = (
    Bars(
        "From received to told",
        "In the time on show. Received is judged, merged into the same attack, resolved, or neither: sent again, late"
        " or not understood. Told and withheld are what was decided about those that count.",
        [
            (total("sentinel_alerts_received_total"), "received"),
            (total("sentinel_alert_outcomes_total", _JUDGED), "judged"),
            (total("sentinel_alert_outcomes_total", '{outcome="suppressed"}'), "below the merchant's limits"),
            (total("sentinel_alert_outcomes_total", '{outcome=~"session_updated|comment_added"}'), "merged"),
            (total("sentinel_alert_outcomes_total", '{outcome="created"}'), "new alerts"),
            (total("sentinel_alert_outcomes_total", '{outcome="resolved"}'), "resolved"),
            (total("sentinel_alert_outcomes_total", '{outcome=~"duplicate|stale"}'), "sent again or late"),
            (total("sentinel_notify_decisions_total", _TOLD), "told"),
            (total("sentinel_notify_decisions_total", _WITHHELD), "withheld"),
        ],
    ),
    Course(
        "What became of the alerts",
        "Per second, by outcome. Together they are what was received.",
        [
            (per_second("sentinel_alert_outcomes_total", "outcome"), "{{outcome}}"),
            ("sum(rate(sentinel_alerts_received_total[$__rate_interval]))", "received"),
        ],
        "suffix:/s",
    ),
    Course(
        "Firing alerts received, by type",
        "Per second, resent ones too.",
        [(per_second("sentinel_alert_triggers_total", "alert_type"), "{{alert_type}}")],
        "suffix:/s",
        stacked=True,
    ),
    Course(
        "Told or withheld, and why",
        "Decisions per second. What frequency limits withhold is summed up in a digest later.",
        [(per_second("sentinel_notify_decisions_total", "decision"), "{{decision}}")],
        "suffix:/s",
        stacked=True,
    ),
    Course(
        "Withheld for frequency",
        "Of what was to be told. More than 30% fires FrequencyControlHighRejection.",
        [("max(job:sentinel_notify_decisions:frequency_ratio10m)", "withheld")],
        units.PercentUnit,
        limits=[(0.3, RED)],
    ),
    Course(
        "What time brings about",
        "Per second, by the sweep: sessions that expire or end, severity that rises, digests.",
        [(per_second("sentinel_sweep_changes_total", "change"), "{{change}}")],
        "suffix:/s",
    ),
    Course(
        "First action of a person",
        "From an alert's first trigger, by what was done. Half of them were faster.",
        quantiles("sentinel_alert_response_seconds", "action", shares=[0.5]),
        units.Seconds,
    ),
)

LATENCY = (
    Course(
        "Ingestion",
        "Of a delivery: judged by its merchants' limits, merged, committed. All of it in one transaction.",
        quantiles("sentinel_ingest_seconds", shares=[0.5, 0.95, 0.99]),
        units.Seconds,
    ),
    Course(
        "Answers to Alertmanager",
        "From the first byte read to the answer, by status.",
        quantiles("sentinel_http_request_seconds", "status", _INGEST, [0.99]),
        units.Seconds,
    ),
    Course(
        "Deliveries",
        "Per second, by status; and how many were tried again because another was first.",
        [
            (per_second("sentinel_http_request_seconds_count", "status", _INGEST), "{{status}}"),
            ("sum(rate(sentinel_ingest_conflicts_total[$__rate_interval]))", "tried again"),
        ],
        "suffix:/s",
    ),
    Course(
        "Transactions of the database",
        "From asking for a connection to giving it back, in serve and worker.",
        quantiles("sentinel_database_seconds", "kind"),
        units.Seconds,
    ),
    Course(
        "Evaluation of the rules",
        "How long Prometheus took for each group. One that takes longer than its interval is left out next time.",
        [("max by (rule_group) (prometheus_rule_group_last_duration_seconds)", "{{rule_group}}")],
        units.Seconds,
    ),
    Course(
        "Pages and API",
        "p99 by route, without deliveries.",
        quantiles("sentinel_http_request_seconds", "route", '{route!="/api/v1/alerts/prometheus/webhook"}', [0.99]),
        units.Seconds,
    ),
)

BEFORE = (
    Course(
        "From Prometheus to Alertmanager",
        "Alerts per second: sent, not taken, dropped.",
        [
            ("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "sent"),
            ("sum(rate(prometheus_notifications_errors_total[$__rate_interval]))", "not taken"),
            ("sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))", "dropped"),
        ],
        "suffix:/s",
    ),
    Course(
        "Alerts in Alertmanager",
        "Firing, and held back by a silence or a graver one. The members of a cluster hold the same.",
        [("max by (state) (alertmanager_alerts)", "{{state}}")],
    ),
    Course(
        "From Alertmanager to us",
        "Calls per second to webhooks and other receivers, and those that failed.",
        [
            (per_second("alertmanager_notifications_total", "integration", _OURS), "{{integration}}"),
            (per_second("alertmanager_notifications_failed_total", "integration", _OURS), "{{integration}} failed"),
        ],
        "suffix:/s",
    ),
    Course(
        "How long Alertmanager waits for us",
        "For an answer of the webhook.",
        quantiles("alertmanager_notification_latency_seconds", of='{integration="webhook"}'),
        units.Seconds,
    ),
)

PROCESSES = (
    Figure(
        "Serve up", "Processes that take alerts in.", 'sum(up{job="sentinel-webhook"})', limits=[(1, GREEN)], base=RED
    ),
    Figure("Workers up", "Processes that send.", 'sum(up{job="sentinel-worker"})', limits=[(1, GREEN)], base=RED),
    Figure(
        "Sweeping",
        "One of all workers sweeps.",
        "sum(sentinel_sweep_leader)",
        limits=[(1, GREEN), (2, RED)],
        base=RED,
    ),
    Figure(
        "Last sweep",
        "Without it no attack ends and no severity rises by duration.",
        "time() - max(sentinel_sweep_last_success_timestamp_seconds)",
        units.Seconds,
        limits=[(120, RED)],
    ),
    Figure(
        "Worker rounds failed",
        "Mostly the store was away: `round_failed` in the worker's log.",
        total("sentinel_worker_errors_total"),
        limits=[(1, YELLOW)],
    ),
    Figure(
        "Rules failed",
        "Evaluations that Prometheus could not make, or left out.",
        "(sum(increase(prometheus_rule_evaluation_failures_total[$__range])) or vector(0))"
        " + (sum(increase(prometheus_rule_group_iterations_missed_total[$__range])) or vector(0))",
        limits=[(1, RED)],
    ),
    Figure(
        "Frequency backend",
        "Whether Redis answers; without Redis there is none. The store goes on alone.",
        "min(sentinel_frequency_backend_up)",
        limits=[(1, GREEN)],
        base=YELLOW,
        words={0: "away", 1: "up"},
    ),
    Figure(
        "Alertmanagers",
        "That Prometheus knows.",
        "min(prometheus_notifications_alertmanagers_discovered)",
        limits=[(1, GREEN)],
        base=RED,
    ),
)


def dashboard() -> str:
    return board(
        UID,
        "Sentinel alert pipeline",
        "From a rule that fires to a decision: what became of every alert, and where it got stuck.",
        [
            Section("", [*FIGURES, *PROCESSES]),
            Section("What becomes of alerts", FLOW),
            Section("How long it takes", LATENCY),
            Section("Before the webhook", BEFORE),
        ],
    )
