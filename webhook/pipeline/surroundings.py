"""What is known around alerts, within a time limit: from the store, and what is usual from Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import Protocol

from webhook.domain.circumstances import Circumstances
from webhook.domain.message import Note, metric_names
from webhook.domain.metric import metric_words
from webhook.domain.usual import DAYS, usual
from webhook.ports import HistoryUnavailable, PastDays

BASELINE_METRICS = 4
_STEP = timedelta(minutes=1)  # of a single point no more than a formality


class Facts(Protocol):
    """What the store knows."""

    def around(self, note: Note) -> Circumstances:
        """All but the baseline."""


@dataclass(slots=True)
class Surroundings:
    """`parallel` looks into Prometheus at once; where more are wanted, or it is slow, the baseline is left out."""

    facts: Facts
    history: PastDays | None = None
    parallel: int = 4
    _threads: ThreadPoolExecutor = field(init=False)
    _under_way: set[object] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.parallel, thread_name_prefix="baseline")

    def of(self, notes: Sequence[Note], seconds: float) -> list[Circumstances]:
        """In their order; the baselines may take `seconds`, what has come by then is used."""
        known = [self.facts.around(note) for note in notes]
        found: list[dict[str, float]] = [{} for _ in notes]
        if self.history is not None and len(self._under_way) < self.parallel:
            work = self._threads.submit(self._baselines, self.history, notes, found, monotonic() + seconds)
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
            wait([work], seconds)
        return [replace(one, baseline=dict(baseline)) for one, baseline in zip(known, found, strict=True)]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _baselines(
        history: PastDays, notes: Sequence[Note], found: Sequence[dict[str, float]], deadline: float
    ) -> None:
        """The same usual level that the chart shows, at the moment when the alert began."""
        for note, baseline in zip(notes, found, strict=True):
            names = [name for name in metric_names(note) if not metric_words(name).calculated]
            began = note.first_triggered_at
            for name in names[:BASELINE_METRICS]:
                if monotonic() >= deadline:
                    return
                with suppress(HistoryUnavailable):
                    past = history.past_days(name, note.account_id, began, began, _STEP, days=DAYS)
                    if (level := usual(past, began)) is not None:
                        baseline[name] = level.middle[0]
