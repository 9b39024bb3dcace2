"""Severities of an alert, P0 the gravest, and the steps by which they rise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol


class Severity(StrEnum):
    """P0 is the gravest; compare with `rank`, where higher means graver."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"

    rank: int

    def __init__(self, value: str) -> None:
        """Once: ranks are compared several times for every trigger."""
        self.rank = 3 - int(value[1])


def graver(a: Severity, b: Severity) -> Severity:
    return a if a.rank >= b.rank else b


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """Reaching `occurrence_count` or `duration` (of the session), whichever is set, raises to `severity`."""

    severity: Severity
    occurrence_count: int | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Escalation:
    """One entry of `escalation_history`."""

    from_severity: Severity
    to_severity: Severity
    reason: str  # occurrence_count_threshold | duration_threshold | rule_severity
    occurrence_count: int
    escalated_at: datetime

    def as_json(self) -> dict[str, str | int]:
        return {
            "from_severity": self.from_severity.value,
            "to_severity": self.to_severity.value,
            "reason": self.reason,
            "occurrence_count": self.occurrence_count,
            "escalated_at": self.escalated_at.isoformat(),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Escalation:
        return cls(
            Severity(entry["from_severity"]),
            Severity(entry["to_severity"]),
            entry["reason"],
            entry["occurrence_count"],
            datetime.fromisoformat(entry["escalated_at"]),
        )

    def describe(self) -> str:
        """One sentence for the alert's history."""
        count = "once" if self.occurrence_count == 1 else f"{self.occurrence_count} times"
        because = {
            "occurrence_count_threshold": f"it occurred {count}",
            "duration_threshold": "of how long it has lasted",
            "rule_severity": "a graver rule fired",
        }.get(self.reason, self.reason)
        return f"Severity rose from {self.from_severity} to {self.to_severity} because {because}"


_BY_DURATION = "duration_threshold"


def rises_by_time(escalations: Iterable[Escalation]) -> int:
    """How many of them nothing but its duration caused."""
    return sum(one.reason == _BY_DURATION for one in escalations)


DEFAULT_STEPS = (
    EscalationStep(Severity.P2, occurrence_count=10),
    EscalationStep(Severity.P1, occurrence_count=50),
    EscalationStep(Severity.P1, duration=timedelta(hours=2)),
    EscalationStep(Severity.P0, duration=timedelta(hours=6)),
)


class Escalating(Protocol):
    """The part of a session that decides how grave it is."""

    @property
    def severity(self) -> Severity: ...
    @property
    def occurrence_count(self) -> int: ...
    def lasted(self, now: datetime) -> timedelta:
        """How long the attack has been going on."""


def escalate(session: Escalating, steps: tuple[EscalationStep, ...], now: datetime) -> Escalation | None:
    """The gravest step that the session has reached and that is graver than its severity; None if there is none.

    Of several steps to the same severity the first one listed is named as the reason.
    """
    best: EscalationStep | None = None
    for step in steps:
        if step.severity.rank > (best or session).severity.rank and _reached(step, session, now):
            best = step
    if best is None:
        return None
    by_count = best.occurrence_count is not None and session.occurrence_count >= best.occurrence_count
    reason = "occurrence_count_threshold" if by_count else _BY_DURATION
    return Escalation(session.severity, best.severity, reason, session.occurrence_count, now)


def _reached(step: EscalationStep, session: Escalating, now: datetime) -> bool:
    if step.occurrence_count is not None and session.occurrence_count >= step.occurrence_count:
        return True
    return step.duration is not None and session.lasted(now) >= step.duration
