"""What is known around an alert, for a model that is to explain it: its past, what is usual, how to write of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from webhook.domain.message import Note
from webhook.domain.metric import format_time
from webhook.domain.severity import Severity
from webhook.domain.usual import DAYS

DEFAULT_LANGUAGE = "en"
LANGUAGE_TAG = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$"
"""BCP 47, without what nobody writes."""

HISTORY_DAYS = 30


@dataclass(frozen=True, slots=True)
class EarlierAlerts:
    """Of the same merchant and alert type in the last HISTORY_DAYS days; `last_at` is when the latest began."""

    number: int = 0
    last_at: datetime | None = None
    last_severity: Severity | None = None
    last_status: str = ""

    def as_data(self) -> dict[str, Any]:
        if self.last_at is None:
            return {"earlier_alerts": self.number, "within_days": HISTORY_DAYS}
        return {
            "earlier_alerts": self.number,
            "within_days": HISTORY_DAYS,
            "last_began": format_time(self.last_at),
            "last_severity": self.last_severity,
            "last_status": self.last_status,
        }


@dataclass(frozen=True, slots=True)
class Template:
    """A stored prompt template; an empty `id` is the one that is built in."""

    text: str
    id: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """`baseline`: what each metric usually is at this time of day; empty where nobody could tell in time."""

    language: str = DEFAULT_LANGUAGE
    template: Template | None = None
    earlier: EarlierAlerts = field(default_factory=EarlierAlerts)
    baseline: Mapping[str, float] = field(default_factory=dict)

    def days(self) -> Iterator[int]:
        """Over how many days it looks: a text may tell that."""
        if self.earlier.number:
            yield HISTORY_DAYS
        if self.baseline:
            yield DAYS


NOTHING_KNOWN = Circumstances()


def is_urgent(note: Note) -> bool:
    """Whether it is asked for at once: P0, P1, and whatever rises. P3, and P2 that does not, may wait for others."""
    return note.severity.rank >= Severity.P1.rank or note.reason == "escalated"
