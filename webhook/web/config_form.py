"""A configuration as a form: what is stored as fields, what was typed as a checked body, and errors by field.

Fields are flat texts as a browser sends them, so that what was typed can be shown again whatever is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from webhook.domain.circumstances import DEFAULT_LANGUAGE
from webhook.domain.evaluation import OPERATORS
from webhook.notifiers.settings import Channels, quiet_text
from webhook.web.config_document import (
    ConfigBody,
    FrequencyControl,
    NotificationStrategy,
    Settings,
    message_of,
)
from webhook.web.threshold_text import threshold_in, threshold_text

Fields = Mapping[str, str]

MOST_ROWS = 100
_WHOLE = "Write a whole number from {} to {}."
LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "it": "Italiano",
    "ja": "日本語",
    "ko": "한국어",
    "nl": "Nederlands",
    "pt": "Português",
    "ru": "Русский",
    "zh": "中文",
}
"""Those in which numbers that are written as words are checked too."""

HINTS = {
    "max_alerts_per_hour": _WHOLE.format("0", "100,000"),
    "max_alerts_per_day": _WHOLE.format("0", "100,000"),
    "min_interval_minutes": "Write a number of minutes from 0 to 1,440.",
    "thresholds": "Write whole numbers from 1 on, with commas between them, such as 10, 50.",
    "interval_minutes": "Write a number of minutes from 0 to 525,600.",
    "language": "Choose one of these.",
    "snooze_until": "Write a day and a time in UTC, such as 2026-03-14 18:00, or nothing.",
    "priority": _WHOLE.format("-1,000", "1,000"),
    "metric": "Name a metric or a label, in at most 255 characters.",
    "operator": "Choose one of these.",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One setting of a channel, as a field: a line of text, or `many` of them."""

    name: str
    many: bool


def channel_parts() -> dict[str, list[Part]]:
    """What there is to set of each channel, beside whether it is on: read from the models that check it."""
    found = {}
    for channel, about in Channels.model_fields.items():
        model: type[BaseModel] = get_args(about.annotation)[0]
        parts = {name: part for name, part in model.model_fields.items() if name != "enabled"}
        found[channel] = [Part(name, "list" in str(part.annotation)) for name, part in parts.items()]
    return found


def fields_of(document: Mapping[str, Any]) -> dict[str, str]:
    """A stored document, its secrets masked, as fields; {}: what holds where nothing is set."""
    limits = FrequencyControl().model_dump() | (document.get("frequency_control") or {})
    strategy = NotificationStrategy().model_dump() | (document.get("notification_strategy") or {})
    fields = {
        "enabled": "on" if document.get("enabled", True) else "",
        "logic": document.get("logic", "all"),
        "first": "on" if strategy["first"] else "",
        "thresholds": ", ".join(str(number) for number in strategy["thresholds"]),
        "interval_minutes": _number(strategy["interval_minutes"]),
        "snooze_until": _shown_time(document.get("snooze_until")),
        "language": document.get("language") or "",
        "no_digest": "" if limits.pop("digest") else "on",
        **{name: _number(value) for name, value in limits.items()},
    }
    for number, condition in enumerate(document.get("trigger_conditions", [])):
        fields |= _row_of(number, condition)
    for channel, settings in document.get("channels", {}).items():
        fields[f"{channel}.state"] = "on" if settings.get("enabled", True) else "off"
        for name, value in settings.items():
            if name != "enabled":
                fields[f"{channel}.{name}"] = _setting_text(value)
    return fields


def _row_of(number: int, condition: Mapping[str, Any]) -> dict[str, str]:
    metric, symbol = condition["metric_name"], condition["operator"]
    return {
        f"metric-{number}": metric,
        f"operator-{number}": symbol,
        f"threshold-{number}": threshold_text(metric, symbol, condition["threshold"]),
        f"priority-{number}": str(condition.get("priority", 0)),
        f"window-{number}": condition.get("time_window", ""),
        f"active-{number}": "on" if condition.get("is_active", True) else "",
    }


def rows_in(fields: Fields) -> list[int]:
    """The numbers of the rows of conditions, in order."""
    found = (re.fullmatch(r"metric-([0-9]{1,4})", name) for name in fields)
    return sorted(int(match[1]) for match in found if match)[:MOST_ROWS]


def with_row(fields: Fields) -> dict[str, str]:
    number = max(rows_in(fields), default=-1) + 1
    return {**fields, **_row_of(number, {"metric_name": "", "operator": ">", "threshold": ""})}


def without_row(fields: Fields, number: int) -> dict[str, str]:
    return {name: text for name, text in fields.items() if not name.endswith(f"-{number}")}


@dataclass(slots=True)
class Typed:
    """What was typed, checked: either a body or errors by field; "" is of no field."""

    body: ConfigBody | None = None
    errors: dict[str, str] = field(default_factory=dict)


def read_form(fields: Fields, account_id: str, alert_type: str, stored: Mapping[str, Any]) -> Typed:
    """`stored` is the document that there is, {} for none: what was left as it was shown stays as it is."""
    typed = Typed()
    rows = [number for number in rows_in(fields) if _filled(fields, number)]
    version = fields.get("version", "")
    document = {
        "merchant_id": account_id,
        "alert_type": alert_type,
        "version": int(version) if re.fullmatch("[0-9]{1,9}", version) else None,
        "enabled": fields.get("enabled") == "on",
        "logic": fields.get("logic", "all"),
        "trigger_conditions": [_condition(fields, number, typed.errors) for number in rows],
        "channels": _channels(fields, typed.errors),
        "frequency_control": {
            "digest": fields.get("no_digest") != "on",
            **_given(fields, FrequencyControl, but=("digest",)),
        },
        "notification_strategy": {
            "first": fields.get("first") == "on",
            "thresholds": re.findall(r"[^\s,;]+", fields.get("thresholds", "")),
            **_given(fields, NotificationStrategy, but=("first", "thresholds")),
        },
        "snooze_until": _time(fields, stored),
        "language": fields["language"].strip() or None if "language" in fields else stored.get("language"),
    }
    try:
        body = ConfigBody.model_validate(document)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = _field(detail, rows)
            typed.errors.setdefault(name, HINTS.get(re.sub(r"-[0-9]+$", "", name)) or _sentence(message_of(detail)))
        return typed
    if not typed.errors:
        typed.body = body.model_copy(update=_left_open(body, stored))
    return typed


def _given(fields: Fields, model: type[BaseModel], but: tuple[str, ...] = ()) -> dict[str, str]:
    """Numbers that were typed; an empty field means the default."""
    typed = {name: fields.get(name, "").strip() for name in model.model_fields if name not in but}
    return {name: text for name, text in typed.items() if text}


def _left_open(body: Settings, stored: Mapping[str, Any]) -> dict[str, None]:
    """What was never set and shows its defaults still: it stays open, and follows the defaults."""
    defaults = {"frequency_control": FrequencyControl(), "notification_strategy": NotificationStrategy()}
    return {name: None for name, default in defaults.items() if not stored.get(name) and getattr(body, name) == default}


def _filled(fields: Fields, number: int) -> bool:
    """A row that was added and left empty is none."""
    return bool(fields.get(f"metric-{number}", "").strip() or fields.get(f"threshold-{number}", "").strip())


def _condition(fields: Fields, number: int, errors: dict[str, str]) -> dict[str, Any]:
    metric, symbol = fields.get(f"metric-{number}", "").strip(), fields.get(f"operator-{number}", "")
    threshold: Any = 0.0
    if symbol in OPERATORS:
        try:
            threshold = threshold_in(metric, symbol, fields.get(f"threshold-{number}", ""))
        except ValueError as error:
            errors[f"threshold-{number}"] = str(error)
            threshold = [] if symbol in ("in", "not_in") else 0.0
    return {
        "metric_name": metric,
        "operator": symbol,
        "threshold": threshold,
        "time_window": fields.get(f"window-{number}", ""),
        "priority": fields.get(f"priority-{number}", "").strip() or 0,
        "is_active": fields.get(f"active-{number}") == "on",
    }


def _channels(fields: Fields, errors: dict[str, str]) -> dict[str, Any]:
    found = {}
    for channel, parts in channel_parts().items():
        state, settings = fields.get(f"{channel}.state", ""), {}
        for part in parts:
            lines = [line.strip() for line in fields.get(f"{channel}.{part.name}", "").splitlines() if line.strip()]
            if lines:
                settings[part.name] = lines if part.many else " ".join(lines)
        if state in ("on", "off"):
            found[channel] = {"enabled": state == "on", **settings}
        elif settings:
            errors[f"{channel}.state"] = "Choose On or Off: with the default, what is written below would be lost."
    return found


def _setting_text(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(value)
    return quiet_text(value) if isinstance(value, Mapping) else str(value or "")


def _shown_time(stored: str | None) -> str:
    """As an input for date and time has it; seconds are left out."""
    return stored[:16] if stored else ""


def _time(fields: Fields, stored: Mapping[str, Any]) -> str | None:
    text, known = fields.get("snooze_until", "").strip(), stored.get("snooze_until")
    if known and text == _shown_time(known):
        return str(known)
    return text or None


def _field(detail: ErrorDetails, rows: list[int]) -> str:
    """The field of the form that an error is about."""
    match detail["loc"]:
        case ("trigger_conditions", int(place), *rest):
            name = {"metric_name": "metric", "priority": "priority", "operator": "operator", "time_window": "window"}
            return f"{name.get(str(rest[0]) if rest else '', 'threshold')}-{rows[place]}"
        case ("channels", str(channel), str(name), *_):
            return f"{channel}.{name}"
        case ("frequency_control" | "notification_strategy", str(name), *_):
            return name
        case (str(name), *_) if name in ("snooze_until", "logic", "language"):
            return name
    return ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def languages(fields: Fields) -> dict[str, str]:
    """What there is to choose from, with what was chosen elsewhere, such as de-CH."""
    chosen = fields.get("language", "")
    default = {"": f"The default ({LANGUAGES[DEFAULT_LANGUAGE]})"}
    return default | LANGUAGES | ({chosen: chosen} if chosen not in ("", *LANGUAGES) else {})


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
