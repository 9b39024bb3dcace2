"""An alert in one SMS, and who gets one when: severity, quiet hours, the short link. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from webhook.domain.alert import NotifyReason
from webhook.domain.gsm import cost, transliterated
from webhook.domain.message import Message, one_line
from webhook.domain.severity import Severity

SHORT_ID = 10
"""Hexadecimal digits of an alert's id in a short link: of a million alerts one in a million has a double."""

LEAST_SEVERITY: Mapping[str, Severity] = {"sms": Severity.P1}
"""From which severity a channel is used at all where the merchant does not say."""

HELD = "held back until the quiet hours end"
LIMITED = "held back until a number may have a further message"
_UCS2_SEGMENTS = 2
_SHORTEST = 12  # characters of a title that still say something


@dataclass(frozen=True, slots=True)
class SmsSlot:
    """One number of one notification. `sent`, `refused`: of an earlier try; `unsure`: it began and was not heard of.

    `limited`: it has had as many as it may within an hour, at `since`; `free_at` is when it may have the next.
    """

    id: str
    state: Literal["new", "unsure", "sent", "refused", "limited"]
    since: datetime
    reference: str = ""
    free_at: datetime | None = None


def short_link(base: str, alert_id: str) -> str:
    return f"{base.rstrip('/')}/a/{alert_id.replace('-', '')[:SHORT_ID]}"


def short_range(short_id: str) -> tuple[str, str] | None:
    """The first and the last alert id that begin so; None for what is no short id."""
    if not re.fullmatch(f"[0-9a-f]{{{SHORT_ID},32}}", short_id):
        return None
    first, last = (short_id.ljust(32, fill) for fill in "0f")
    return _dashed(first), _dashed(last)


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def sms_text(message: Message, brand: str, link: str) -> str:
    """Such as `Sentinel Alert [P1]: Card testing attack detected. Block rate: 45%. View: https://…` in one line.

    One segment of GSM characters; the metric goes first, then the title is cut. In another script two segments.
    """
    head, tail = f"{brand} Alert [{message.severity}]: ", f" View: {link}"
    what, metric = transliterated(_what(message)), transliterated(_metric(message))
    for middle in (f"{what}. {metric}." if metric else f"{what}.", f"{what}."):
        if _fits(text := head + middle + tail):
            return text
    while len(what) > _SHORTEST and not _fits(f"{head}{what}.{tail}"):
        what = what[:-1].rstrip()
    return f"{head}{what}.{tail}"


def _fits(text: str) -> bool:
    found = cost(text)
    return found.segments <= (1 if found.encoding == "GSM-7" else _UCS2_SEGMENTS)


def _what(message: Message) -> str:
    """The title without the merchant, who knows its own name, and what became of it."""
    title = one_line(message.title, 200) or "Alert"
    plain = title.removesuffix(f": {message.merchant}")
    if message.reason is NotifyReason.RESOLVED:
        return plain if "ended" in plain.casefold() or "over" in plain.casefold() else f"{plain} ended"
    return f"{plain} detected" if plain != title else plain.rstrip(".")


def _metric(message: Message) -> str:
    """The first fact, which is the metric that matters: `Block rate: 35.04%`."""
    if not message.facts or message.facts[0][0] == "Since":
        return ""
    label, value = message.facts[0]
    return one_line(f"{label}: {value.partition(' (')[0].replace(' %', '%')}", 200)


def wanted_for(channel: str, settings: Mapping[str, Any], severity: Severity) -> bool:
    """Whether an alert of this severity is told on this channel."""
    least = settings.get("min_severity") or LEAST_SEVERITY.get(channel)
    return least is None or severity.rank >= Severity(least).rank


def held_until(settings: Mapping[str, Any], severity: Severity, now: datetime) -> datetime | None:
    """When the quiet hours end that hold a message back; None where it may go now.

    `quiet_hours`: `from` and `to` as HH:MM in `time_zone`; `except`: from which severity on they do not count.
    """
    quiet = settings.get("quiet_hours")
    if not quiet or severity.rank >= Severity(quiet.get("except") or Severity.P0).rank:
        return None
    zone = ZoneInfo(quiet["time_zone"])
    begin, end = time.fromisoformat(quiet["from"]), time.fromisoformat(quiet["to"])
    local = now.astimezone(zone)
    at = local.time().replace(second=0, microsecond=0)
    inside = begin <= at < end if begin <= end else at >= begin or at < end
    if not inside:
        return None
    day = local.date() + timedelta(days=0 if at < end else 1)
    return datetime.combine(day, end, zone).astimezone(now.tzinfo)
