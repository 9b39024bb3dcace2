"""Runs each source on its schedule: a thread of its own, never two runs at once, and a watch over those that hang."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
from typing import Protocol

import structlog

from exporter.errors import CollectError, TimedOut
from exporter.mapping.spec import DataWarning
from exporter.schedule import Schedule

_WATCH_EVERY = 0.25
_GRACE = 0.5  # seconds after its timeout in which a collector may still end by itself
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` times the schedule, `wall` (Unix seconds) is what people and Prometheus read."""

    monotonic: Callable[[], float] = monotonic
    wall: Callable[[], float] = time


@dataclass(frozen=True, slots=True)
class Outcome:
    """A collection that went well; its data is served only when `publish` is called."""

    rows: int
    series: int
    warnings: tuple[DataWarning, ...]
    publish: Callable[[], None]


class Job(Protocol):
    """One source, as the scheduler sees it. Durations are in seconds."""

    name: str
    interval: float
    timeout: float
    max_staleness: float

    def run(self, now: datetime, deadline: float) -> Outcome:
        """Collect; CollectError on failure. `deadline` is on the monotonic clock."""

    def cancel(self) -> None:
        """Make a running `run` end soon."""

    def drop(self) -> None:
        """Serve nothing of the source any more."""

    def close(self) -> None:
        """Let go of what the source holds open; it is not run any more."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed; `at` is in Unix seconds."""

    at: float
    reason: str
    message: str
    retryable: bool = False
    retry_after: float | None = None
    stops: bool = False

    @classmethod
    def of(cls, error: CollectError, at: float) -> Failure:
        return cls(at, error.reason, str(error), error.retryable, error.retry_after, error.stops)


@dataclass(frozen=True, slots=True)
class SourceState:
    """What is known of a source. Replaced as a whole, so that any thread may read one.

    `attempts` have ended; `failures` are those since the last success. `rows` and `series` are what is served now,
    and `last_warnings` are about it.
    `*_at` are Unix seconds; `fresh_since`, `running_since` and `next_run` are on the monotonic clock.
    """

    name: str
    interval: float
    attempts: int = 0
    failures: int = 0
    running_since: float | None = None
    overdue: bool = False
    next_run: float | None = None
    last_run_at: float | None = None
    last_success_at: float | None = None
    fresh_since: float | None = None
    duration: float | None = None
    rows: int = 0
    series: int = 0
    last_failure: Failure | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    last_warnings: tuple[DataWarning, ...] = ()


class Slot:
    """One source's thread and state."""

    def __init__(self, job: Job, clock: Clock, origin: float) -> None:
        self.job = job
        self._clock = clock
        self._schedule = Schedule(job.name, job.interval, origin)
        self._lock = threading.Lock()
        self._served = False
        self._cancelled = False
        self._warned: set[tuple[str, str | None]] = set()
        self.state = SourceState(job.name, job.interval, next_run=self._schedule.first())

    def loop(self, stopped: threading.Event) -> None:
        """Run on schedule until stopped; a source that cannot run fails once."""
        while self.state.next_run is not None:
            if stopped.wait(max(0.0, self.state.next_run - self._clock.monotonic())):
                return
            self.run_once()

    def run_once(self) -> None:
        """One collection, start to end, in the calling thread."""
        started = self._clock.monotonic()
        with self._lock:
            at = self._clock.wall()
            self.state = replace(self.state, running_since=started, overdue=False, next_run=None, last_run_at=at)
        try:
            outcome = self.job.run(datetime.fromtimestamp(at, UTC), started + self.job.timeout)
        except CollectError as error:
            failure = Failure(
                self._clock.wall(), error.reason, str(error), error.retryable, error.retry_after, error.stops
            )
            self._end(partial(self._failed, failure=failure), started)
        else:
            self._end(partial(self._succeeded, outcome=outcome), started)

    def watch(self) -> None:
        """Declare a run that is long past its timeout failed, and drop data that is too old."""
        now = self._clock.monotonic()
        with self._lock:
            hangs = self._hangs(now)
            if hangs:
                self._give_up(now)
            if self._stale(now):
                self._expire()
        if hangs:
            self.job.cancel()

    def cancel(self) -> None:
        """Give up a running collection for good: the exporter stops, and nobody wants to hear of it."""
        with self._lock:
            self._cancelled = True
        if self.state.running_since is not None:
            self.job.cancel()

    def _end(self, conclude: Callable[[float, float], None], started: float) -> None:
        """Take what a run brought, unless it was given up meanwhile."""
        now = self._clock.monotonic()
        with self._lock:
            late = self.state.overdue
            self.state = replace(self.state, running_since=None, overdue=False)
            if late:
                self._plan(now)
            elif not self._cancelled:
                conclude(now, started)

    def _hangs(self, now: float) -> bool:
        since = self.state.running_since
        return since is not None and not self.state.overdue and now >= since + self.job.timeout + _GRACE

    def _stale(self, now: float) -> bool:
        since = self.state.fresh_since
        return self._served and since is not None and now >= since + self.job.max_staleness

    def _give_up(self, now: float) -> None:
        started = self.state.running_since
        assert started is not None
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
        outcome.publish()
        self._served = True
        counts = Counter(self.state.warnings)
        for warning in outcome.warnings:
            counts[warning.reason] += warning.count
        self.state = replace(
            self.state,
            attempts=self.state.attempts + 1,
            failures=0,
            last_success_at=self._clock.wall(),
            fresh_since=now,
            duration=now - started,
            rows=outcome.rows,
            series=outcome.series,
            warnings=counts,
            last_warnings=outcome.warnings,
            next_run=self._schedule.regular(now),
        )
        seconds = _rounded(now - started)
        log.debug("collected", source=self.job.name, rows=outcome.rows, series=outcome.series, seconds=seconds)
        self._tell(outcome.warnings)

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
            last_failure=failure,
            duration=now - started,
            errors=Counter(self.state.errors) + Counter([failure.reason]),
        )
        self._plan(now)
        due = self.state.next_run
        log.warning(
            "collection failed",
            source=self.job.name,
            reason=failure.reason,
            error=failure.message,
            retry_in=None if due is None else _rounded(due - now),
            serving_last_good=self._served,
        )

    def _plan(self, now: float) -> None:
        failure = self.state.last_failure
        if failure is None or not self.state.failures:
            due = self._schedule.regular(now)
        elif failure.stops:
            due = None
        else:
            due = self._schedule.after_failure(
                now, failures=self.state.failures, retryable=failure.retryable, retry_after=failure.retry_after
            )
        self.state = replace(self.state, next_run=due)


class Scheduler:
    """All sources' slots, and the thread that watches them."""

    def __init__(self, jobs: Iterable[Job], clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        origin = self._clock.monotonic()
        self.slots = tuple(Slot(job, self._clock, origin) for job in jobs)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def states(self) -> tuple[SourceState, ...]:
        return tuple(slot.state for slot in self.slots)

    @property
    def ready(self) -> bool:
        """Whether every source has been tried."""
        return all(state.attempts for state in self.states)

    def start(self) -> None:
        loops: dict[str, Callable[[], None]] = {
            f"source-{slot.job.name}": partial(slot.loop, self._stopped) for slot in self.slots
        }
        for name, target in {**loops, "watch": self._watch}.items():
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 1.0) -> None:
        """Start nothing more, cancel what runs, and wait at most `timeout` seconds for it to end."""
        self._stopped.set()
        for slot in self.slots:
            slot.cancel()
        end = monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))
        for slot in self.slots:
            slot.job.close()

    def _watch(self) -> None:
        while not self._stopped.wait(_WATCH_EVERY):
            for slot in self.slots:
                slot.watch()


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
