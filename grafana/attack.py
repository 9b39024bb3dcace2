"""One merchant under attack: each metric beside the limits of the rules, a week before, and which rules fire.

Pictures of messages are drawn from it (`grafana:` in the webhook's configuration, docs/channels.md), by the ids of its
panels: an id that has been given away is never given to another panel.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.board import TAG, Section, board, choice
from grafana.panels import GREEN, RED, YELLOW, Column, Course, Figure, Piece, Table
from grafana.rule_limits import rule_limits

UID = "sentinel-attack"
PANELS = {
    "default": 1,
    "CARD_TESTING": 2,
    "VELOCITY_ATTACK": 3,
    "ACCOUNT_TAKEOVER": 4,
    "CHARGEBACK_FRAUD": 5,
    "ANOMALY_DETECTION": 6,
    "BLOCK_SURGE": 7,
}
"""Ids by alert type; `default` shows every rate and serves all others."""

SEVERITIES = {4: ("P0", "dark-red"), 3: ("P1", RED), 2: ("P2", "orange"), 1: ("P3", YELLOW)}
_OF = '{account_id="$account_id"}'
_FIRING = 'ALERTS{alertstate="firing", account_id="$account_id", alert_type=~"$alert_type"}'


def _metric(name: str, *, ago: str = "") -> str:
    return f"account:sentinel_{name}:max{_OF}{f' offset {ago}' if ago else ''}"


def severity_of(alerts: str, by: str) -> str:
    """4 for P0 to 1 for P3: the gravest of a selection of ALERTS, by these labels. `alerts` ends in `}`."""
    each = (f'{alerts.removesuffix("}")}, severity="{word}"}} * {value}' for value, (word, _) in SEVERITIES.items())
    return f"max by ({by}) ({' or '.join(each)})"


def _course(
    alert_type: str,
    title: str,
    description: str,
    metric: str,
    name: str,
    *others: tuple[str, str],
    unit: str = units.PercentUnit,
    right: tuple[str, str] | None = None,
) -> Course:
    """The metric that a type is told by, now and a week ago, with the rules' limits."""
    lines = [(_metric(metric), name), *others, (_metric(metric, ago="7d"), f"{name} a week before")]
    limits = rule_limits(alert_type, metric)
    return Course(title, description, lines, unit, limits, right=right, id=PANELS[alert_type])


def _types() -> list[Piece]:
    surge = rule_limits("BLOCK_SURGE", "block_rate_surge")[0][0]
    deviations = rule_limits("ANOMALY_DETECTION", "block_rate_deviation")[0][0]
    mean, deviation = (f"account:sentinel_block_rate:{kind}7d{_OF}" for kind in ("avg", "stddev"))
    return [
        _course(
            "CARD_TESTING",
            "Card testing",
            "Payments blocked, and authorisations that banks refused, of all. Dashed: what the rules compare the block"
            " rate with. The merchant's own limits stand in Sentinel.",
            "block_rate",
            "blocked",
            (_metric("failed_auth_rate"), "refused by banks"),
        ),
        _course(
            "VELOCITY_ATTACK",
            "Velocity",
            "Payments per second, and how many cards they are made with: a script has few. Dashed: what the rule"
            " compares payments per second with.",
            "transaction_rate",
            "payments",
            (f"{_metric('unique_card_count')} / {_metric('transaction_count')}", "cards per payment"),
            unit="suffix:/s",
            right=("cards per payment", units.PercentUnit),
        ),
        _course(
            "ACCOUNT_TAKEOVER",
            "Account takeover",
            "Payments that are unusual for whoever makes them, of all. Dashed: what the rule compares with.",
            "unusual_spend_rate",
            "unusual",
        ),
        _course(
            "CHARGEBACK_FRAUD",
            "Chargebacks",
            "Payments charged back, of all, and how many. Dashed: what the rule compares the rate with.",
            "chargeback_rate",
            "charged back",
            (_metric("chargeback_count"), "chargebacks"),
            right=("chargebacks", units.Short),
        ),
        Course(
            "Block rate and what is usual",
            f"The average of seven days without earlier attacks, and {deviations:g} standard deviations above it, from"
            " which on the rule counts it as unusual.",
            [
                (_metric("block_rate"), "blocked"),
                (mean, "usual"),
                (f"{mean} + {deviations:g} * {deviation}", "limit"),
            ],
            units.PercentUnit,
            id=PANELS["ANOMALY_DETECTION"],
        ),
        Course(
            "Block rate by the hour",
            f"The average of an hour; the rule fires when it is more than {surge:g} times that of the hour before.",
            [
                (f"avg_over_time({_metric('block_rate')}[1h])", "blocked"),
                (f"{surge:g} * (avg_over_time({_metric('block_rate')}[1h] offset 1h) + 0.01)", "limit"),
            ],
            units.PercentUnit,
            id=PANELS["BLOCK_SURGE"],
        ),
    ]


def _figures() -> list[Figure]:
    return [
        Figure(
            "Severity",
            "The gravest of the rules that fire. The webhook may have raised it: count and duration are seen there.",
            f"{severity_of(_FIRING, '')} or vector(0)",
            limits=[(1, YELLOW), (2, "orange"), (3, RED)],
            words={value: word for value, (word, _) in SEVERITIES.items()} | {0: "none"},
            id=10,
        ),
        Figure(
            "Rules that fire", "Now, of the chosen types.", f"count({_FIRING}) or vector(0)", limits=[(1, RED)], id=11
        ),
        _rate("Blocked", "Payments blocked, of all.", "block_rate", "CARD_TESTING", 12),
        _rate("Refused by banks", "Failed authorisations, of all.", "failed_auth_rate", "CARD_TESTING", 13),
        _rate("Unusual", "Payments unusual for whoever makes them.", "unusual_spend_rate", "ACCOUNT_TAKEOVER", 14),
        _rate("Charged back", "Chargebacks, of all payments.", "chargeback_rate", "CHARGEBACK_FRAUD", 15),
        Figure("Payments", "In the window of the source.", _metric("transaction_count"), base="blue", id=16),
        Figure("Cards", "Different ones, in the same window.", _metric("unique_card_count"), base="blue", id=17),
    ]


def _rate(title: str, description: str, metric: str, alert_type: str, panel: int) -> Figure:
    limits = rule_limits(alert_type, metric)
    return Figure(title, description, _metric(metric), units.PercentUnit, limits, GREEN, id=panel)


OVERVIEW = Course(
    "Rates of $account_id",
    "Every rate that rules look at. It is the picture for alert types that have none of their own.",
    [
        (_metric("block_rate"), "blocked"),
        (_metric("failed_auth_rate"), "refused by banks"),
        (_metric("unusual_spend_rate"), "unusual"),
        (_metric("chargeback_rate"), "charged back"),
    ],
    units.PercentUnit,
    span=16,
    id=PANELS["default"],
)
PAYMENTS = Course(
    "Payments",
    "How many in the window of the source, now and a week ago: a rate of few payments means little.",
    [(_metric("transaction_count"), "payments"), (_metric("transaction_count", ago="7d"), "a week before")],
    span=8,
    id=8,
)
FIRING = Course(
    "Severity over time",
    "The gravest rule that fired, of each type: 4 is P0, 1 is P3.",
    [(severity_of(_FIRING, "alert_type"), "{{alert_type}}")],
    limits=[(1, YELLOW), (2, "orange"), (3, RED)],
    span=24,
    height=6,
    id=9,
)
RULES = Table(
    "Rules that fire or are about to",
    "Pending rules wait for their `for`. What became of each alert, and why, stands in Sentinel under Triggers.",
    columns={
        "State": Column(
            f"max by (alertname, alert_type, severity) ({_FIRING} or"
            ' ALERTS{alertstate="pending", account_id="$account_id", alert_type=~"$alert_type"} * 0)',
            words={0: ("pending", YELLOW), 1: ("firing", RED)},
        ),
        "Since": Column(
            "max by (alertname, alert_type, severity)"
            ' (ALERTS_FOR_STATE{account_id="$account_id", alert_type=~"$alert_type"}) * 1000',
            "dateTimeFromNow",
        ),
    },
    labels={"alertname": "Rule", "alert_type": "Type", "severity": "Severity"},
    sort=("Severity", False),
    height=7,
    id=20,
)


def dashboard() -> str:
    return board(
        UID,
        "Sentinel attack",
        "One merchant: what is unusual, since when, beside which limit, and which rules say so.",
        [
            Section("", [*_figures(), OVERVIEW, PAYMENTS, FIRING]),
            Section("By type of attack", _types()),
            Section("Rules", [RULES]),
        ],
        variables=[
            choice(
                "account_id",
                "Account",
                "label_values(account:sentinel_transaction_count:max, account_id)",
                several=False,
            ),
            choice("alert_type", "Type", 'label_values(ALERTS{account_id!=""}, alert_type)'),
        ],
        since="now-6h",
        annotated=(TAG, "$account_id"),
    )
