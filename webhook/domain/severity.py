"""Severities of an alert, P0 the gravest, and the steps by which they rise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Severity(StrEnum):
    """P0 is the gravest; compare with `rank`, where higher means graver."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"

    @property
    def rank(self) -> int:
        return 3 - int(self.value[1])


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


DEFAULT_STEPS = (
    EscalationStep(Severity.P2, occurrence_count=10),
    EscalationStep(Severity.P1, occurrence_count=50),
    EscalationStep(Severity.P1, duration=timedelta(hours=2)),
    EscalationStep(Severity.P0, duration=timedelta(hours=6)),
)
