"""All merchants: who is attacked, who is unusual, and from there to one of them."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana import attack
from grafana.board import Section, board, choice
from grafana.panels import ORANGE, RED, YELLOW, Column, Course, Figure, Table
from grafana.rule_limits import rule_limits

UID = "sentinel-merchants"
_OF = '{account_id=~"$account_id"}'
_FIRING = 'ALERTS{alertstate="firing", account_id!="", account_id=~"$account_id"}'
_BLOCKED = rule_limits("CARD_TESTING", "block_rate")
_TO_ONE = f"/d/{attack.UID}?var-account_id=%s&${{datasource:queryparam}}&${{__url_time_range}}"
_LINK = ("Look at this merchant", _TO_ONE % "${__field.labels.account_id}")


def _metric(name: str) -> str:
    return f"account:sentinel_{name}:max{_OF}"


def _highest(title: str, description: str, query: str, unit: str = units.PercentUnit) -> Course:
    return Course(title, description, [(f"topk(10, {query})", "{{account_id}}")], unit, link=_LINK)


FIGURES = (
    Figure("Merchants", "Of whom there are data.", f"count({_metric('transaction_count')})", base="blue"),
    Figure(
        "Merchants with alerts",
        "For whom at least one rule fires. Whether they are told is decided by their own limits.",
        f"count(count by (account_id) ({_FIRING})) or vector(0)",
        limits=[(1, YELLOW)],
    ),
    Figure(
        "P0 and P1",
        "Merchants for whom a rule of this severity fires.",
        f'count(count by (account_id) ({_FIRING[:-1]}, severity=~"P0|P1"}})) or vector(0)',
        limits=[(1, RED)],
    ),
    Figure("Payments per second", "Of all of them.", f"sum({_metric('transaction_rate')})", "suffix:/s", base="blue"),
    Figure(
        "Highest block rate",
        "Of one merchant; coloured from what the rules of card testing compare with.",
        f"max({_metric('block_rate')})",
        units.PercentUnit,
        _BLOCKED,
    ),
    Figure(
        "Highest refusals",
        "Authorisations that banks refused, of one merchant.",
        f"max({_metric('failed_auth_rate')})",
        units.PercentUnit,
        rule_limits("CARD_TESTING", "failed_auth_rate"),
    ),
    Figure(
        "Unusual merchants",
        "Whose block rate is more than 3 standard deviations above their week.",
        "count(account:sentinel_block_rate:deviation7d" + _OF + " > 3) or vector(0)",
        limits=[(1, YELLOW)],
    ),
    Figure(
        "Oldest data",
        "A source that is not collected says nothing of its merchants. More: the exporter's dashboard.",
        "max(max by (source) (sentinel_source_age_seconds))",
        units.Seconds,
        limits=[(300, YELLOW), (900, RED)],
    ),
)

TABLE = Table(
    "Merchants",
    "A row for each, the gravest alert first. An account leads to its own view.",
    columns={
        "Severity": Column(
            f"{attack.severity_of(_FIRING, 'account_id')} or 0 * {_metric('transaction_count')}",
            words={0: ("none", "text"), **attack.SEVERITIES},
        ),
        "Payments": Column(f"max by (account_id, merchant_name) (sentinel_transaction_count{_OF})"),
        "Blocked": Column(_metric("block_rate"), units.PercentUnit, limits=_BLOCKED),
        "Usual": Column(f"account:sentinel_block_rate:avg7d{_OF}", units.PercentUnit),
        "Refused by banks": Column(
            _metric("failed_auth_rate"), units.PercentUnit, limits=rule_limits("CARD_TESTING", "failed_auth_rate")
        ),
        "Unusual": Column(
            _metric("unusual_spend_rate"),
            units.PercentUnit,
            limits=rule_limits("ACCOUNT_TAKEOVER", "unusual_spend_rate"),
        ),
        "Charged back": Column(
            _metric("chargeback_rate"), units.PercentUnit, limits=rule_limits("CHARGEBACK_FRAUD", "chargeback_rate")
        ),
    },
    labels={"account_id": "Account", "merchant_name": "Merchant"},
    sort=("Severity", True),
    link=("Account", "Look at this merchant", _TO_ONE % "${__value.text}"),
    height=12,
)

COURSES = (
    _highest("Highest block rates", "Payments blocked, of all. The ten highest.", _metric("block_rate")),
    _highest("Most refused by banks", "Failed authorisations. The ten highest.", _metric("failed_auth_rate")),
    _highest(
        "Least like themselves",
        "By how many standard deviations a block rate differs from its week. The ten highest.",
        f"account:sentinel_block_rate:deviation7d{_OF}",
        units.Short,
    ),
    _highest("Busiest", "Payments per second. The ten highest.", _metric("transaction_rate"), "suffix:/s"),
    Course(
        "Merchants with alerts, by type",
        "For whom a rule of this type fires.",
        [(f"count by (alert_type) (count by (alert_type, account_id) ({_FIRING}))", "{{alert_type}}")],
        stacked=True,
    ),
    Course(
        "Merchants with alerts, by severity",
        "For whom a rule of this severity fires.",
        [(f"count by (severity) (count by (severity, account_id) ({_FIRING}))", "{{severity}}")],
        colors={"P0": "dark-red", "P1": RED, "P2": ORANGE, "P3": YELLOW},
    ),
)


def dashboard() -> str:
    return board(
        UID,
        "Sentinel merchants",
        "Who is attacked, who is unusual, and whom to look at first.",
        [Section("", [*FIGURES, TABLE]), Section("Over time", COURSES)],
        variables=[choice("account_id", "Account", "label_values(account:sentinel_transaction_count:max, account_id)")],
    )
