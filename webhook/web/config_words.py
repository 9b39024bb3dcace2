"""What a configuration says, and what two differ in, in words."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from webhook.domain.configuration import difference
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.metric import metric_words
from webhook.web.threshold_text import threshold_text
from webhook.web.wording import OPERATORS, channel_label, humanise

NOTHING = "not set"
_CONDITION = re.compile(r"trigger_conditions\[([0-9]+)\]\.(.+)")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|\+00:00)")
FIELDS = {
    "enabled": "Alerts of this type",
    "logic": "Conditions that must hold",
    "channels": "Channels",
    "frequency_control.max_alerts_per_hour": "Messages per hour, at most",
    "frequency_control.max_alerts_per_day": "Messages per day, at most",
    "frequency_control.min_interval_minutes": "Minutes between messages, at least",
    "frequency_control.digest": "Sum up hourly what was held back",
    "notification_strategy.first": "Message when an alert opens",
    "notification_strategy.thresholds": "Messages at these counts",
    "notification_strategy.interval_minutes": "Message again every so many minutes",
    "snooze_until": "Snoozed until",
    "language": "Language of summaries",
    "webhook_url": "Webhook address",
    "phone_numbers": "Phone numbers",
    "channel": "Channel",
    "min_severity": "From this severity on",
    "quiet_hours": "Quiet hours",
    "to": "Addresses",
    "api_key": "API key",
    "routing_key": "Integration key",
    "region": "Region",
    "secret": "Signing secret",
    "url": "Service",
}


class Change(NamedTuple):
    """One thing that differs, in words; `NOTHING` where it is absent on that side."""

    label: str
    before: str
    after: str


def changes(before: MerchantConfig | None, after: MerchantConfig | None) -> list[Change]:
    """Conditions are compared as sentences, the rest field by field. Secrets are masked."""
    found = [
        Change(field_label(entry.path), value_text(entry.before), value_text(entry.after))
        for entry in difference(before, after)
        if not entry.path.startswith("trigger_conditions")
    ]
    return found + _conditions(before, after)


def _conditions(before: MerchantConfig | None, after: MerchantConfig | None) -> list[Change]:
    """A condition on a metric that has gone is paired with one on the same metric that has come."""
    old, new = _sentences(before), _sentences(after)
    gone, come = list((old - new).elements()), list((new - old).elements())
    found = []
    for metric, text in gone:
        other = next((entry for entry in come if entry[0] == metric), None)
        if other is not None:
            come.remove(other)
        found.append(Change("Condition", text, other[1] if other else NOTHING))
    return found + [Change("Condition", NOTHING, text) for _, text in come]


def _sentences(config: MerchantConfig | None) -> Counter[tuple[str, str]]:
    """Metric and sentence of each condition."""
    if config is None:
        return Counter()
    active = Counter((item.metric_name, condition_text(item)) for item in config.conditions)
    return active + Counter((item.metric_name, f"{condition_text(item)} (not used)") for item in config.inactive)


def condition_text(condition: Condition) -> str:
    """`Block rate > 30 %`."""
    metric, symbol = condition.metric_name, condition.operator
    limit = threshold_text(metric, symbol, condition.threshold)
    priority = f", priority {condition.priority}" if condition.priority else ""
    window = f" over {condition.time_window}" if condition.time_window else ""
    return f"{metric_words(metric).label} {OPERATORS.get(symbol, symbol)} {limit}{window}{priority}"


def field_label(path: str) -> str:
    """`channels.slack.webhook_url` as `Slack: webhook address`."""
    if path in FIELDS:
        return FIELDS[path]
    parts = path.split(".")
    if match := _CONDITION.fullmatch(path):
        return f"Condition {int(match[1]) + 1}: {humanise(match[2]).lower()}"
    if parts[0] != "channels":
        return humanise(parts[-1])
    if parts[-1] == "enabled":
        return channel_label(parts[1])
    name = FIELDS.get(parts[-1]) or humanise(parts[-1])
    return f"{channel_label(parts[1])}: {name.lower()}" if len(parts) > 2 else channel_label(parts[1])  # noqa: PLR2004 - channels, channel, field


def value_text(value: Any) -> str:  # noqa: ANN401 - from a document
    if value is None or value == {}:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value) or "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    if _INSTANT.fullmatch(text):
        return f"{text[:16].replace('T', ' ')} UTC"
    return {"True": "on", "False": "off", "all": "all of them", "any": "any of them"}.get(text, text)
