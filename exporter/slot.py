"""One source's place in the scheduler: its state, when it has to be looked at next, and its runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic

import structlog

from exporter.collectors.base import Measure
from exporter.errors import CollectError, TimedOut
from exporter.mapping.spec import DataWarning
from exporter.schedule import Schedule
from exporter.source_state import Clock, Failure, Job, Outcome, SourceState, Warm

_GRACE = 0.5  # seconds after its timeout in which a collector may still end by itself
_WAIT_FOR_FORMER = 1.0  # seconds at a time; after them the source is looked at anew: it may have been given up
_LOOK_AT_WALL_CLOCK = 60.0  # seconds; a source with a cron expression notices a wall clock that was set
log = structlog.get_logger()


class Slot:
    """A source's state and runs. Any thread may call; times are on the monotonic clock."""

    def __init__(
        self,
        job: Job,
        clock: Clock,
        schedule: Schedule,
        *,
        spread: float = 0.25,
        warm: Warm | None = None,
        after: Slot | None = None,
    ) -> None:
        """`spread` is that of the first collections; `after` has the same source, and may not have ended yet."""
        self.job = job
        self._clock = clock
        self._schedule = schedule
        self._lock = threading.Lock()
        self._served = warm is not None
        self._cancelled = False
        self._claimed = False
        self._after = _unended(after)
        self.closed = threading.Event()
        self._look = self._look_wall = self._checked = 0.0
        self._warned: set[tuple[str, str | None]] = set()
        cron = None if schedule.cron is None else schedule.cron.expression
        self.state = SourceState(job.name, job.interval, cron=cron)
        now, wall = clock.monotonic(), clock.wall()
        due = schedule.first(now, spread)
        if warm is not None:
            if not warm.at_once:
                due = schedule.first_of_warm(now, wall, age=warm.age, spread=spread)
            self.state = replace(
                self.state,
                warm=True,
                last_success_at=wall - warm.age,
                fresh_since=now - warm.age,
                rows=warm.rows,
                series=warm.series,
                last_warnings=warm.warnings,
            )
        self._plan_at(due, now)

    @property
    def running(self) -> bool:
        return self._claimed or self.state.running_since is not None

    @property
    def ended(self) -> bool:
        """Whether nothing of the source runs any more: neither this slot, given up, nor one that it came after."""
        return self.closed.is_set() and _unended(self._after) is None

    @property
    def due(self) -> float | None:
        """When `claim` has to be called next, None while there is nothing to look at."""
        with self._lock:
            state = self.state
            times = [self._end_of_freshness()]
            if state.running_since is not None:
                if not state.overdue:
                    times.append(state.running_since + self.job.timeout + _GRACE)
            elif not self._claimed and not self._cancelled:
                times.append(min(self._look, self._checked + _LOOK_AT_WALL_CLOCK) if state.cron else self._look)
            return min((at for at in times if at is not None), default=None)

    def claim(self) -> Callable[[], None] | None:
        """What there is to do now, in a thread of its own: a run, or the end of one that hangs; None for nothing.

        Drops data that is too old. A run that is handed out must be called; no other one is until it has ended.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._stale(now):
                self._expire()
            if self._hangs(now):
                self._give_up(now)
                return self.job.cancel
            if self.running or self._cancelled or now < self._look_again(now):
                return None
            self._claimed = True
        return self.run_once

    def run_once(self) -> None:
        """One collection, start to end, in the calling thread; of a stopped source only when a secret has changed."""
        try:
            self._run_once()
        except BaseException:  # ours, and told by the caller: the source can be run again
            with self._lock:
                self._claimed = False
                self.state = replace(self.state, running_since=None, overdue=False)
            if self._cancelled:
                self._close()
            raise

    def _run_once(self) -> None:
        if self.state.stopped and not self.job.secrets_changed():
            with self._lock:
                self._claimed = False
                self._plan(self._clock.monotonic())
            return
        if not self._former_ended() and not self._cancelled:
            with self._lock:
                self._claimed = False  # what is due stays so, and is claimed anew: the lag tells how long it takes
                if not self._cancelled:
                    return
        started = self._begin()
        if started is None:
            self._close()
            return
        measures: list[Measure] = []
        at = self._clock.wall()
        try:
            outcome = self.job.run(datetime.fromtimestamp(at, UTC), started + self.job.timeout, measures)
            if self._end(partial(self._succeeded, outcome=outcome), started, measures):
                outcome.published()
        except CollectError as error:
            failure = Failure.of(error, self._clock.wall())
            self._end(partial(self._failed, failure=failure), started, measures)
        if self._cancelled:
            self._close()

    def cancel(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Give the source up for good, and a run that goes on: nobody wants to hear of it.

        `run` runs what may take its time; `closed` is set once the source has let go of all that it held open.
        """
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            self._served = False
            idle = not self.running
        if idle:
            run(self._close)
        elif self.state.running_since is not None:
            run(self.job.cancel)

    def resume(self) -> None:
        """Try a stopped source again at once: somebody has loaded the configuration anew."""
        with self._lock:
            if self.state.stopped:
                self.state = replace(self.state, stopped=False)
                now = self._clock.monotonic()
                self._plan_at(now, now)

    def _begin(self) -> float | None:
        """Take note that a run begins, and when; None when the source was given up before."""
        with self._lock:
            self._claimed = False
            if self._cancelled:
                return None
            started = self._clock.monotonic()
            self.state = replace(
                self.state,
                running_since=started,
                overdue=False,
                next_run=None,
                last_run_at=self._clock.wall(),
                lag=max(0.0, started - self._look),
            )
            return started

    def _former_ended(self) -> bool:
        """Wait a while for the slots that this one came after. One that was never run hands its own on."""
        until = monotonic() + _WAIT_FOR_FORMER
        while (former := _unended(self._after)) is not None:
            self._after = former
            if not former.closed.wait(max(0.0, until - monotonic())):
                return False
        self._after = None
        return True

    def _close(self) -> None:
        try:
            self.job.close()
        finally:
            self.closed.set()

    def _look_again(self, now: float) -> float:
        """When the source is looked at next; that of a cron expression by the wall clock as it is now."""
        if self.state.cron is not None:
            self._checked = now
            self._look = now + self._look_wall - self._clock.wall()
            if self.state.next_run is not None:
                self.state = replace(self.state, next_run=self._look)
        return self._look

    def _end(self, conclude: Callable[[float, float], None], started: float, measures: list[Measure]) -> bool:
        """Take what a run brought and return True, or False when it was given up meanwhile.

        The measures are taken out of their list: a run whose data cannot be published ends twice.
        """
        now = self._clock.monotonic()
        with self._lock:
            late = self.state.overdue
            measured = self.state.measured.after(measures)
            measures.clear()
            if measured.refused and not self.state.measured.refused:
                log.warning("measures left out", source=self.job.name, count=measured.refused)
            self.state = replace(self.state, running_since=None, overdue=False, measured=measured)
            if self._cancelled:
                return False
            if late:
                self._plan(now)
            else:
                conclude(now, started)
            return not late

    def _hangs(self, now: float) -> bool:
        since = self.state.running_since
        return since is not None and not self.state.overdue and now >= since + self.job.timeout + _GRACE

    def _end_of_freshness(self) -> float | None:
        since = self.state.fresh_since
        return since + self.job.max_staleness if self._served and since is not None else None

    def _stale(self, now: float) -> bool:
        end = self._end_of_freshness()
        return end is not None and now >= end

    def _give_up(self, now: float) -> None:
        started = self.state.running_since
        assert started is not None
        if self._cancelled:  # of a source that is gone nobody wants to hear
            self.state = replace(self.state, overdue=True)
            return
        message = f"no end within the timeout of {self.job.timeout:g} s; the next run waits until this one has ended"
        failure = Failure(self._clock.wall(), TimedOut.reason, message, retryable=True)
        self._failed(now, started, failure=failure)
        self.state = replace(self.state, overdue=True, next_run=None)

    def _expire(self) -> None:
        self._served = False
        self.job.drop()
        self.state = replace(self.state, series=0, rows=0, last_warnings=())
        log.warning("data too old, no longer served", source=self.job.name, max_staleness=self.job.max_staleness)

    def _succeeded(self, now: float, started: float, *, outcome: Outcome) -> None:
        left_out = outcome.publish()
        self._served = True
        warnings = (*outcome.warnings, *left_out)
        counts = Counter(self.state.warnings)
        for warning in warnings:
            counts[warning.reason] += warning.count
        self.state = replace(
            self.state,
            attempts=self.state.attempts + 1,
            failures=0,
            stopped=False,
            warm=False,
            last_success_at=self._clock.wall(),
            fresh_since=now,
            duration=now - started,
            rows=outcome.rows,
            series=outcome.series - sum(warning.count for warning in left_out),
            warnings=counts,
            last_warnings=warnings,
        )
        self._plan(now)
        seconds = _rounded(now - started)
        log.debug("collected", source=self.job.name, rows=outcome.rows, series=outcome.series, seconds=seconds)
        self._tell(warnings)

    def _tell(self, warnings: Iterable[DataWarning]) -> None:
        """Log warnings about the data, those of a kind that the last collection had too only at debug."""
        told = set()
        for warning in warnings:
            kind = warning.reason, warning.metric
            tell = log.debug if kind in self._warned else log.warning
            tell(
                "data left out or changed",
                source=self.job.name,
                reason=warning.reason,
                count=warning.count,
                detail=warning.detail,
                **({"metric": warning.metric} if warning.metric else {}),
            )
            told.add(kind)
        self._warned = told

    def _failed(self, now: float, started: float, *, failure: Failure) -> None:
        self.state = replace(
            self.state,
            attempts=self.state.attempts + 1,
            failures=self.state.failures + 1,
            stopped=failure.stops,
            last_failure=failure,
            duration=now - started,
            errors=Counter(self.state.errors) + Counter([failure.reason]),
        )
        self._plan(now)
        due = self.state.next_run
        log.warning(
            "source stopped: fix it and reload, or change the secret" if failure.stops else "collection failed",
            source=self.job.name,
            reason=failure.reason,
            error=failure.message,
            retry_in=None if due is None else _rounded(due - now),
            serving_last_good=self._served,
        )

    def _plan(self, now: float) -> None:
        failure = self.state.last_failure
        wall = self._clock.wall()
        if failure is None or not self.state.failures or self.state.stopped:
            due = self._schedule.regular(now, wall)
        else:
            due = self._schedule.after_failure(
                now, wall, failures=self.state.failures, retryable=failure.retryable, retry_after=failure.retry_after
            )
        self._plan_at(due, now)

    def _plan_at(self, due: float, now: float) -> None:
        self._look, self._look_wall, self._checked = due, self._clock.wall() + due - now, now
        self.state = replace(self.state, next_run=None if self.state.stopped else due)


def _unended(slot: Slot | None) -> Slot | None:
    """The slot itself or, once it is closed, the first one before it that is not."""
    while slot is not None and slot.closed.is_set():
        slot = slot._after  # noqa: SLF001 - of the same class
    return slot


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
