"""Which alerts are so much like each other that a text for one may be true for the other."""

from __future__ import annotations

import math

from webhook.domain.circumstances import Circumstances
from webhook.domain.message import Note

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
