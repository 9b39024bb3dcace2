"""Why an alert is as it is: what was received, told and done, as steps in words and data. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from webhook.domain.alert import AlertTypeSettings


class StepKind(StrEnum):
    FIRED = "fired"
    NOTED = "noted"
    NOTIFIED = "notified"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: `text` for people, `data` for programs."""

    at: datetime
    kind: StepKind
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """All that is stored about one alert."""

    alert_id: str
    account_id: str
    alert_type: str
    steps: Sequence[Step] = ()
    more_triggers: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """`steps` are in order of time; `summary` is the short answer."""

    alert_id: str
    summary: str
    steps: Sequence[Step]
    more_triggers: int


def explain(facts: AlertFacts, settings: AlertTypeSettings) -> Explanation:  # noqa: ARG001 - the rules that are named
    """The steps of one alert, oldest first, and one sentence."""
    steps = sorted(facts.steps, key=lambda step: step.at)
    fired = sum(step.kind is StepKind.FIRED for step in steps)
    told = sum(step.kind is StepKind.NOTIFIED for step in steps)
    summary = f"{fired + facts.more_triggers} triggers were received and {told} messages queued."
    return Explanation(facts.alert_id, summary, steps, facts.more_triggers)
