"""What the scheduler and a source say to each other, and what is known of a source at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, time
from typing import Protocol

from exporter.collectors.base import Measure
from exporter.cron import Cron
from exporter.errors import CollectError
from exporter.mapping.spec import DataWarning
from exporter.measured import Measured


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` times the schedule, `wall` (Unix seconds) is what people and Prometheus read."""

    monotonic: Callable[[], float] = monotonic
    wall: Callable[[], float] = time


@dataclass(frozen=True, slots=True)
class Outcome:
    """A collection that went well; its data is served only when `publish` is called.

    `publish` is quick, and returns warnings about what is left out for another source has it, each with the number of
    its series; CollectError when it cannot be served. `published` tells the source that it is, which may take its time.
    """

    rows: int
    series: int
    warnings: tuple[DataWarning, ...]
    publish: Callable[[], Sequence[DataWarning]]
    published: Callable[[], None] = lambda: None


class Job(Protocol):
    """One source, as the scheduler sees it. Durations are in seconds; `interval` is the longest gap of `cron`."""

    name: str
    interval: float
    cron: Cron | None
    timeout: float
    max_staleness: float

    def run(self, now: datetime, deadline: float, measures: list[Measure]) -> Outcome:
        """Collect; CollectError on failure. `deadline` is on the monotonic clock. Either way `measures` are added."""

    def cancel(self) -> None:
        """Make a running `run` end soon."""

    def drop(self) -> None:
        """Serve nothing of the source any more."""

    def secrets_changed(self) -> bool:
        """Whether a secret that the last run read is another one now; the source is not asked."""

    def close(self) -> None:
        """Let go of what the source holds open; it is not run any more."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Data of a source that is served before its first collection: how old it is in seconds, and how much.

    The first collection is when the next one would have been, or `at_once`.
    """

    age: float
    rows: int
    series: int
    warnings: tuple[DataWarning, ...] = ()
    at_once: bool = False


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
    and `last_warnings` are about it; it is `warm` when an earlier process or configuration collected it.
    `stopped`: not tried any more until a secret that it read changes, or a reload. `interval` is the longest gap of
    `cron` where that is set. `lag` is by how many seconds the last run began late.
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
    cron: str | None = None
    stopped: bool = False
    warm: bool = False
    lag: float | None = None
    measured: Measured = field(default_factory=Measured)

    @property
    def tried(self) -> bool:
        """Whether there is something to say: a collection has ended, or warm data is served."""
        return self.attempts > 0 or self.warm
