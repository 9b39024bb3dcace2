"""Texts that were written for one alert and may be true for another that is much like it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from webhook.domain.circumstances import Circumstances
from webhook.domain.message import Note, Summary

Key = tuple[object, ...]


def likeness(note: Note, around: Circumstances) -> Key:
    """What two alerts have in common of which one text may tell: all but the last digits, and the times.

    Of one merchant alone: a text holds the name, and whatever else the model chose to tell of its alert.
    """
    return (
        note.account_id,
        note.merchant_name,
        note.alert_type,
        note.reason,
        note.severity,
        note.rule_summary,
        around.language,
        around.template.id if around.template is not None else "",
        tuple(sorted((name, _rounded(value)) for name, value in note.metrics.items())),
        tuple(sorted(note.thresholds.items())),
    )


def _rounded(value: float) -> str:
    """To two digits."""
    return f"{value:.1e}" if math.isfinite(value) else str(value)


@dataclass(slots=True)
class SimilarTexts:
    """At most `size`, none older than `age`; the one that was used longest ago goes first."""

    size: int
    age: timedelta
    _kept: OrderedDict[Key, tuple[datetime, Summary]] = field(init=False, default_factory=OrderedDict)

    def keep(self, key: Key, summary: Summary, now: datetime) -> None:
        self._kept[key] = (now, summary)
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)

    def find(self, key: Key, now: datetime) -> Summary | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        at, summary = kept
        if now - at > self.age:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return summary
