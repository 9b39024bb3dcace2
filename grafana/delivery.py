"""Messages and their words: what was sent on which channel, how late, what failed, and what models cost."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.board import Section, board, choice, per_second, quantiles, total
from grafana.panels import GREEN, RED, YELLOW, Bars, Course, Figure

UID = "sentinel-delivery"
_OF = '{channel=~"$channel"}'
_SENT = '{channel=~"$channel", outcome="sent"}'
_RETRIED = '{channel=~"$channel", outcome="retried"}'
_BATCH = (
    "sum(rate(sentinel_summary_batch_alerts_sum[$__rate_interval]))"
    " / sum(rate(sentinel_summary_batch_alerts_count[$__rate_interval]))"
)
_FAILED = '{channel=~"$channel", outcome="failed"}'

FIGURES = (
    Figure("Sent", "Messages that providers took.", total("sentinel_notifications_total", _SENT), base="blue"),
    Figure(
        "Retries",
        "Attempts that failed and are made again.",
        total("sentinel_notifications_total", _RETRIED),
        limits=[(1, YELLOW)],
    ),
    Figure(
        "Given up",
        "Refused for good, or tried for a day.",
        total("sentinel_notifications_total", _FAILED),
        limits=[(1, RED)],
    ),
    Figure(
        "Dead letters",
        "Of all channels, of any age: kept until somebody queues them again.",
        'sum(sentinel_outbox{status="FAILED"})',
        limits=[(1, RED)],
    ),
    Figure(
        "Waiting",
        "Due now or later, on all channels.",
        'sum(sentinel_outbox{status=~"PENDING|SENDING"})',
        limits=[(100, YELLOW), (1000, RED)],
    ),
    Figure(
        "Waits longest",
        "The message that is due and has waited longest.",
        "max(sentinel_outbox_oldest_seconds)",
        units.Seconds,
        limits=[(30, YELLOW), (120, RED)],
    ),
    Figure(
        "Maybe told twice",
        "Sent again because a worker died between the provider's call and its record.",
        total("sentinel_notifications_maybe_repeated_total", _OF),
        limits=[(1, YELLOW)],
    ),
    Figure(
        "Paused",
        "How long providers asked to be left alone, all places together.",
        total("sentinel_notification_pause_seconds_total", _OF),
        units.Seconds,
        limits=[(1, YELLOW)],
    ),
)

CHANNELS = (
    Course(
        "Sent, by channel",
        "Messages per second.",
        [(per_second("sentinel_notifications_total", "channel", _SENT), "{{channel}}")],
        "suffix:/s",
        stacked=True,
    ),
    Course(
        "Why they were sent",
        "Messages per second, by the reason of the decision.",
        [(per_second("sentinel_notifications_total", "reason", _SENT), "{{reason}}")],
        "suffix:/s",
        stacked=True,
    ),
    Course(
        "How late",
        "From the decision to the provider's answer: the wait for words, retries, pauses, and on sms quiet hours.",
        quantiles("sentinel_notification_delay_seconds", "channel", _OF),
        units.Seconds,
    ),
    Course(
        "Attempts that failed",
        "Of all attempts of five minutes, by channel. More than 10% fires NotificationDeliveryFailure.",
        [(f"channel:sentinel_notifications:failed_ratio5m{_OF}", "{{channel}}")],
        units.PercentUnit,
        limits=[(0.1, RED)],
    ),
    Course(
        "Retries and dead letters",
        "Attempts per second that are made again, and that were given up.",
        [
            (per_second("sentinel_notifications_total", "channel", _RETRIED), "{{channel}} again"),
            (per_second("sentinel_notifications_total", "channel", _FAILED), "{{channel}} given up"),
        ],
        "suffix:/s",
    ),
    Course(
        "Pauses",
        "Seconds of pause that providers ask for, per second: 1 is one place that is never free.",
        [(per_second("sentinel_notification_pause_seconds_total", "channel", _OF), "{{channel}}")],
    ),
    Course(
        "Outbox",
        "Messages by state. Told by the worker that sweeps.",
        [("sum by (status) (sentinel_outbox)", "{{status}}")],
    ),
    Course(
        "Test messages",
        "How long ago one last went through, by channel. More than 15 minutes fires CanaryNotDelivered.",
        [(f"time() - max by (channel) (sentinel_canary_last_success_timestamp_seconds{_OF} > 0)", "{{channel}}")],
        units.Seconds,
        limits=[(900, RED)],
    ),
)

CHARTS = (
    Course(
        "Charts of messages",
        "Per second: attached to a message, or failed. A message never waits for its chart.",
        [(per_second("sentinel_charts_total", "outcome"), "{{outcome}}")],
        "suffix:/s",
    ),
    Course(
        "Who drew them",
        "Per second: Grafana, or ourselves and why not Grafana.",
        [(per_second("sentinel_chart_drawings_total", "by, why"), "{{by}} {{why}}")],
        "suffix:/s",
    ),
    Course(
        "How long a chart takes",
        "From asking to its picture.",
        quantiles("sentinel_chart_seconds", "by"),
        units.Seconds,
        span=24,
    ),
)

MODELS = (
    Figure(
        "Words by models",
        "Of all messages; the others have words of the cache or of the template.",
        'sum(increase(sentinel_summary_texts_total{source="model"}[$__range]))'
        " / sum(increase(sentinel_summary_texts_total[$__range]))",
        units.PercentUnit,
        span=6,
        base="blue",
    ),
    Figure(
        "Answers used",
        "Of the calls to models: neither refused, failed nor too late.",
        'sum(increase(sentinel_summaries_total{outcome="generated"}[$__range]))'
        ' / sum(increase(sentinel_summaries_total{outcome=~"generated|refused|timeout|failed"}[$__range]))',
        units.PercentUnit,
        limits=[(0.5, YELLOW), (0.9, GREEN)],
        base=RED,
        span=6,
    ),
    Figure("Tokens", "In and out, of all models.", total("sentinel_summary_tokens_total"), base="blue", span=6),
    Figure(
        "Cost",
        "Of these tokens, in the currency of the configured prices.",
        total("sentinel_summary_cost_total"),
        base="blue",
        span=6,
    ),
    Course(
        "Answers of models",
        "Per second, by outcome. `refused`: a number that is in no metric, or no answer in the asked form.",
        [(per_second("sentinel_summaries_total", "source, outcome"), "{{source}} {{outcome}}")],
        "suffix:/s",
        stacked=True,
    ),
    Course(
        "How long models take",
        "From asking to the answer. No message waits longer than the budget of 5 s.",
        quantiles("sentinel_summary_seconds", "source", shares=[0.5, 0.95]),
        units.Seconds,
        limits=[(5, RED)],
    ),
    Course(
        "Tokens",
        "Per second, counted by the provider or estimated.",
        [(per_second("sentinel_summary_tokens_total", "source, direction"), "{{source}} {{direction}}")],
        "suffix:/s",
    ),
    Course(
        "Cost",
        "Per hour, in the currency of the configured prices.",
        [(f"3600 * {per_second('sentinel_summary_cost_total', 'source')}", "{{source}}")],
    ),
    Bars(
        "Where words came from",
        "Messages in the time on show.",
        [("sum by (source) (increase(sentinel_summary_texts_total[$__range]))", "{{source}}")],
    ),
    Course(
        "Cache and batches",
        "Looks into the cache per second: found, not true of these metrics, missing; and alerts in one call.",
        [
            (per_second("sentinel_summary_cache_total", "outcome"), "{{outcome}}"),
            (_BATCH, "alerts in a call"),
        ],
        "suffix:/s",
        right=("alerts in a call", units.Short),
    ),
)


def dashboard() -> str:
    return board(
        UID,
        "Sentinel delivery and words",
        "Does everybody get what was decided, how late, in whose words, and at what cost?",
        [
            Section("", FIGURES),
            Section("Channels", CHANNELS),
            Section("Charts", CHARTS),
            Section("Models", MODELS),
        ],
        variables=[choice("channel", "Channel", "label_values(sentinel_notifications_total, channel)")],
    )
