"""What a preview answers with, bounded and in words."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from webhook.pipeline.preview import Preview, Undetermined


def preview_answer(found: Preview) -> dict[str, Any]:
    replayed = found.replayed
    lost = {metric: why for metric, why in found.history.items() if why}
    return {
        "from": _time(found.since),
        "to": _time(found.until),
        "truncated": found.truncated,
        "triggers": replayed.triggers,
        "alerts_left_out": found.left_out,
        "alerts": asdict(replayed.alerts),
        "messages": asdict(replayed.messages),
        "ends": asdict(replayed.ends),
        "rises": asdict(replayed.rises),
        "outcomes": [
            {"stored": str(old), "proposed": str(new), "triggers": number}
            for (old, new), number in sorted(replayed.outcomes.items())
        ],
        "examples": [
            {
                "kind": example.kind,
                "change": example.change,
                "time": _time(example.at),
                "alert_name": example.alert_name,
                "old": example.old,
                "new": example.new,
                "reason": example.reason,
                "old_channels": list(example.old_channels),
                "new_channels": list(example.new_channels),
            }
            for example in replayed.examples
        ],
        "undetermined": asdict(found.undetermined),
        "metrics_from_history": sorted(metric for metric, why in found.history.items() if not why),
        "metrics_missing": [{"metric_name": metric, "reason": why} for metric, why in sorted(lost.items())],
        "message": _words(found),
    }


def _words(found: Preview) -> str:
    told = found.replayed.messages
    gone = f"{told.vanish} of {told.stored} messages would not have been sent"
    words = f"{gone}, {told.appear} more would have been." if told.appear else f"{gone}."
    return f"{words} {_open(found.undetermined)}" if found.undetermined.triggers else words


def _open(found: Undetermined) -> str:
    """What is not in those counts, as none of it would be held back live."""
    lack = (
        "1 trigger lacks a metric and passes"
        if found.triggers == 1
        else f"{found.triggers:,} triggers lack a metric and pass"
    )
    known = found.met + found.not_met
    told = f"; by what Prometheus has of it the conditions hold for {found.met:,} of {known:,}" if known else ""
    return f"{lack}{told}."


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
