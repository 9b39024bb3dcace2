"""A job, a crew and a clock that do what the test says, and a slot for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from exporter.collectors.base import Measure
from exporter.cron import Cron
from exporter.errors import CollectError
from exporter.mapping.spec import DataWarning
from exporter.schedule import Schedule
from exporter.scheduler import Clock, Outcome, Slot


@dataclass
class Time:
    """A clock that only moves when told to."""

    passed: float = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: 1000 + self.passed, lambda: 1.8e9 + self.passed)


@dataclass
class FakeJob:
    name: str = "payments"
    interval: float = 30.0
    cron: Cron | None = None
    timeout: float = 10.0
    max_staleness: float = 150.0
    error: CollectError | None = None
    warnings: tuple[DataWarning, ...] = ()
    left_out: tuple[DataWarning, ...] = ()
    during: Callable[[], object] = lambda: None
    published: int = 0
    published_hook: Callable[[], object] = lambda: None
    dropped: int = 0
    cancelled: int = 0
    deadlines: list[float] = field(default_factory=list)

    measures: tuple[Measure, ...] = ()
    secrets: list[bool] = field(default_factory=list)
    closed: int = 0

    def run(self, now: datetime, deadline: float, measures: list[Measure]) -> Outcome:
        assert now.tzinfo is not None
        self.deadlines.append(deadline)
        measures += self.measures
        self.during()
        if self.error is not None:
            raise self.error
        return Outcome(5, 10, self.warnings, self.publish, self.published_hook)

    def publish(self) -> tuple[DataWarning, ...]:
        self.published += 1
        return self.left_out

    def cancel(self) -> None:
        self.cancelled += 1

    def drop(self) -> None:
        self.dropped += 1

    def secrets_changed(self) -> bool:
        return self.secrets.pop(0) if self.secrets else False

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeCrew:
    """Each piece of work takes `seconds` of the test's time; `most` is how many were under way at once."""

    time: Time
    seconds: float
    most: int = 0
    _under_way: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    @property
    def ends(self) -> list[float]:
        """When each piece of work ends, on the clock."""
        return [1000 + end for end, _ in self._under_way]

    def run(self, work: Callable[[], None]) -> None:
        self._under_way.append((self.time.passed + self.seconds, work))
        self.most = max(self.most, len(self._under_way))

    def finish(self) -> None:
        """Do the work that ends by now."""
        ended = [work for end, work in self._under_way if end <= self.time.passed]
        self._under_way = [(end, work) for end, work in self._under_way if end > self.time.passed]
        for work in ended:
            work()


def slot_of(job: FakeJob, time: Time) -> Slot:
    return Slot(job, time.clock(), Schedule(job.name, job.interval, 1000, job.cron))


def tend(slot: Slot) -> bool:
    """What the scheduler does when the slot is due; whether there was something to do."""
    work = slot.claim()
    if work is not None:
        work()
    return work is not None
