"""What would be different under a proposed configuration: the stored triggers of the last days, decided again."""

from __future__ import annotations

import gc
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol

from webhook.domain.alert import AlertTypeSettings
from webhook.domain.comparison import EXAMPLES, Replayed
from webhook.domain.evaluation import MerchantConfig, met_by
from webhook.domain.ledger import IngestSettings
from webhook.domain.past import Stored, Wanted
from webhook.domain.replay import replay
from webhook.domain.triggers import FIRING, Reading, Triggers
from webhook.ports import HistoryUnavailable, MetricHistory, Series

LONGEST = timedelta(days=30)
DEFAULT = timedelta(days=7)
MOST_TRIGGERS = 200_000
"""Of more than these the latest are replayed."""

MOST_SECONDS = 20.0
"""A preview takes no longer: it runs beside the deliveries of a process."""

_HISTORY_SECONDS = 8.0  # of these
_POINTS = 5000  # of one query to Prometheus, which answers with 11,000 at most
_FINEST = timedelta(minutes=1)
_STALE = timedelta(minutes=5)  # as Prometheus itself has it
_MOST_METRICS = 10


_Lacking = tuple[datetime, Reading]


class PreviewTooLong(Exception):  # noqa: N818 - an answer to a person
    """It takes longer than it may: fewer days or conditions can help, the same again cannot."""


class PreviewBusy(Exception):  # noqa: N818 - an answer to a person
    """Another preview runs in this process: the same again can help."""


class StoredTriggers(Protocol):
    """See `webhook.storage.replaying.StoredPast`."""

    def read(self, wanted: Wanted) -> AbstractContextManager[Stored]: ...


@dataclass(slots=True)
class Undetermined:
    """Firing triggers that pass because they lack a metric, and what the conditions say of Prometheus' values."""

    triggers: int = 0
    met: int = 0
    not_met: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """`since` is later than asked where there were too many triggers. `history`: by metric, "" or why it is missing.

    `left_out`: alerts that began before what is stored, or could be read.
    """

    replayed: Replayed
    since: datetime
    until: datetime
    truncated: bool = False
    left_out: int = 0
    undetermined: Undetermined = field(default_factory=Undetermined)
    history: Mapping[str, str] = field(default_factory=dict)


class Previews:
    """One at a time: each takes a processor from the deliveries of its process."""

    def __init__(
        self,
        stored: StoredTriggers,
        history: MetricHistory | None,
        settings: IngestSettings,
        *,
        seconds: float = MOST_SECONDS,
        most: int = MOST_TRIGGERS,
    ) -> None:
        self._stored, self._history, self._settings = stored, history, settings
        self._seconds, self._most = seconds, most
        self._running = Lock()

    def run(
        self, config: MerchantConfig, now: datetime, span: timedelta = DEFAULT, *, examples: int = EXAMPLES
    ) -> Preview:
        """With so many examples of each kind of change; writes nothing.

        Raise PreviewBusy, PreviewTooLong, StoreUnavailable.
        """
        if not self._running.acquire(blocking=False):
            raise PreviewBusy("another preview is running")
        try:
            with _uncollected():
                return self._run(config, now, span, examples, _Budget(self._seconds))
        finally:
            self._running.release()

    def _run(self, config: MerchantConfig, now: datetime, span: timedelta, examples: int, budget: _Budget) -> Preview:
        wanted = Wanted(
            config.account_id,
            config.alert_type,
            now - span,
            now - span - LONGEST,
            remembered=_memory(self._settings.types[config.alert_type]),
            limit=self._most,
            names=sorted({condition.metric_name for condition in config.conditions}),
            check=budget.check,
        )
        with self._stored.read(wanted) as (past, triggers, more):
            replayed = replay(
                triggers, past, config, self._settings, more=more, until=now, examples=examples, check=budget.check
            )
        truncated = past.since > wanted.since
        lacking = _undecided(triggers, config, past.since)
        found, told = self._look_up(lacking, config, now, budget)
        undetermined = _undetermined(lacking, config, found, budget.check)
        return Preview(replayed, past.since, now, truncated, past.left_out, undetermined, told)

    def _look_up(
        self, lacking: Sequence[_Lacking], config: MerchantConfig, now: datetime, budget: _Budget
    ) -> tuple[Mapping[str, Series], Mapping[str, str]]:
        """The metrics that a condition names and a trigger did not carry, as Prometheus has them."""
        missing = sorted(set().union(*(_numeric(config) - metrics.keys() for _, (metrics, _) in lacking)))
        told: dict[str, str] = {}
        found: dict[str, Series] = {}
        for number, name in enumerate(missing):
            if self._history is None or number >= _MOST_METRICS or budget.spent > _HISTORY_SECONDS:
                told[name] = "it was not asked for"
                continue
            start = lacking[0][0] - _STALE
            try:
                series = self._history.range(name, config.account_id, start, now, max(_FINEST, (now - start) / _POINTS))
            except HistoryUnavailable as error:
                told[name] = str(error)
                continue
            found[name] = _numbers(series)
            told[name] = "" if found[name].times else "Prometheus has no values of it"
        return found, told


class _Budget:
    """Of seconds."""

    def __init__(self, seconds: float) -> None:
        self._begun, self._seconds = time.monotonic(), seconds

    @property
    def spent(self) -> float:
        return time.monotonic() - self._begun

    def check(self) -> None:
        """Raise PreviewTooLong."""
        if self.spent > self._seconds:
            raise PreviewTooLong(f"takes longer than {self._seconds:g} s")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hundreds of thousands of rows are made and none goes in a cycle: looking for those takes a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _memory(settings: AlertTypeSettings) -> timedelta:
    """How long after its end an attack still matters."""
    return max(settings.flapping_window, settings.session_timeout, settings.occurrence_interval)


def _numeric(config: MerchantConfig) -> set[str]:
    return {condition.metric_name for condition in config.conditions if condition.compare is not None}


def _undecided(triggers: Triggers, config: MerchantConfig, since: datetime) -> list[_Lacking]:
    """Triggers that pass, as live ones do, because a number is missing."""
    names = _numeric(config)
    open_ones = [
        not names <= metrics.keys() and met_by(config, metrics, labels) is None for metrics, labels in triggers.readings
    ]
    rows = zip(triggers.at, triggers.kinds, triggers.reading_of, strict=True)
    return [
        (at, triggers.readings[place])
        for at, kind, place in (rows if any(open_ones) else ())
        if open_ones[place] and kind == FIRING and at >= since
    ]


def _numbers(series: Series) -> Series:
    """Without NaN, which nothing can be compared with."""
    points = [(at, value) for at, value in zip(series.times, series.values, strict=True) if not math.isnan(value)]
    return Series(series.metric, [at for at, _ in points], [value for _, value in points])


def _undetermined(
    lacking: Sequence[_Lacking], config: MerchantConfig, found: Mapping[str, Series], check: Callable[[], None]
) -> Undetermined:
    tally = Undetermined(triggers=len(lacking))
    for number, (at, (metrics, labels)) in enumerate(lacking):
        if number % 1000 == 0:
            check()
        met = met_by(config, _completed(at, metrics, found), labels)
        tally.met += met is True
        tally.not_met += met is False
        tally.unknown += met is None
    return tally


def _completed(at: datetime, metrics: Mapping[str, float], found: Mapping[str, Series]) -> Mapping[str, float]:
    added = {}
    for name, series in found.items():
        place = bisect_right(series.times, at) - 1
        if name not in metrics and place >= 0 and at - series.times[place] <= _STALE:
            added[name] = series.values[place]
    return {**metrics, **added}
