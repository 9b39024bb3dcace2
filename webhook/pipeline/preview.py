"""What would be different under a proposed configuration: the stored triggers of the last days, decided again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from webhook.domain.comparison import Replayed, StoredTrigger
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.ledger import IngestSettings
from webhook.domain.replay import Past, replay
from webhook.ports import HistoryUnavailable, MetricHistory, Series

LONGEST = timedelta(days=30)
DEFAULT = timedelta(days=7)
MOST_TRIGGERS = 200_000
"""Of more than these the latest are replayed."""

_POINTS = 5000  # of one query to Prometheus, which answers with 11,000 at most
_FINEST = timedelta(minutes=1)
_STALE = timedelta(minutes=5)  # as Prometheus itself has it
_MOST_METRICS = 10


class StoredTriggers(Protocol):
    """See `webhook.storage.replaying.StoredPast`."""

    def read(
        self,
        account_id: str,
        alert_type: str,
        since: datetime,
        earliest: datetime,
        *,
        remembered: timedelta,
        limit: int,
        labels: bool,
    ) -> tuple[Past, list[StoredTrigger]]: ...


@dataclass(frozen=True, slots=True)
class Preview:
    """`since` is later than asked where there were too many triggers. `history`: by metric, "" or why it is missing."""

    replayed: Replayed
    since: datetime
    until: datetime
    truncated: bool = False
    history: Mapping[str, str] = field(default_factory=dict)


def preview(
    stored: StoredTriggers,
    history: MetricHistory | None,
    config: MerchantConfig,
    settings: IngestSettings,
    now: datetime,
    *,
    span: timedelta = DEFAULT,
) -> Preview:
    """Writes nothing; raise StoreUnavailable."""
    since, texts = now - span, any(condition.compare is None for condition in config.conditions)
    past, triggers = stored.read(
        config.account_id,
        config.alert_type,
        since,
        now - LONGEST,
        remembered=settings.types[config.alert_type].flapping_window,
        limit=MOST_TRIGGERS,
        labels=texts,
    )
    truncated = len(triggers) == MOST_TRIGGERS
    if truncated:
        since = max(since, triggers[0].at)
    completed, told = _completed(triggers, config, history, now)
    return Preview(replay(completed, past, config, settings), since, now, truncated, told)


def _completed(
    triggers: Sequence[StoredTrigger], config: MerchantConfig, history: MetricHistory | None, now: datetime
) -> tuple[Sequence[StoredTrigger], Mapping[str, str]]:
    """With the metrics that a condition names and a trigger did not carry, as Prometheus has them."""
    named = {condition.metric_name for condition in config.conditions if condition.compare is not None}
    missing = {name for name in named if any(row.firing and name not in row.metrics for row in triggers)}
    if not missing:
        return triggers, {}
    told: dict[str, str] = {}
    found: dict[str, Series] = {}
    start = triggers[0].at - _STALE
    step = max(_FINEST, (now - start) / _POINTS)
    for number, name in enumerate(sorted(missing)):
        if history is None or number >= _MOST_METRICS:
            told[name] = "it was not asked for"
            continue
        try:
            found[name] = history.range(name, config.account_id, start, now, step)
            told[name] = "" if found[name].times else "Prometheus has no values of it"
        except HistoryUnavailable as error:
            told[name] = str(error)
    return [_with(row, found) for row in triggers], told


def _with(row: StoredTrigger, found: Mapping[str, Series]) -> StoredTrigger:
    if not row.firing:
        return row
    added = {}
    for name, series in found.items():
        place = bisect_right(series.times, row.at) - 1
        if name not in row.metrics and place >= 0 and row.at - series.times[place] <= _STALE:
            added[name] = series.values[place]
    return row._replace(metrics={**row.metrics, **added}) if added else row
