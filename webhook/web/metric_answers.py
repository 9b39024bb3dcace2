"""The metrics of an alert as the API shows them: each value against its threshold, with what was reported with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from webhook.domain.report import METADATA, TIME_WINDOW
from webhook.web.readings import Reading


class MetricEntry(BaseModel):
    metric_name: str
    metric_value: float
    threshold: float | None
    operator: str | None
    threshold_of: str | None = Field(description="`merchant` or `rule`.")
    met: bool | None
    time_window: str | None = Field(description="Over what time it was taken, where whoever reported it said so.")
    metadata: dict[str, Any] = Field(description="What came with it in the report.")


def metric_entry(reading: Reading, annotations: Mapping[str, str]) -> MetricEntry:
    return MetricEntry(
        metric_name=reading.metric,
        metric_value=reading.value,
        threshold=reading.threshold,
        operator=reading.operator or None,
        threshold_of=reading.owner or None,
        met=reading.met if reading.threshold is not None else None,
        time_window=annotations.get(TIME_WINDOW + reading.metric),
        metadata=_object(annotations.get(METADATA + reading.metric, "{}")),
    )


def _object(text: str) -> dict[str, Any]:
    """Of an annotation, which anybody's rule may have: what is no JSON object is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
