from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import CollectError, Denied, RateLimited, Unauthorized, Unreachable
from exporter.mapping.spec import DataWarning
from exporter.schedule import Schedule, fraction
from exporter.scheduler import Clock, Outcome, Scheduler, Slot

names = st.text(min_size=1, max_size=20)
intervals = st.floats(0.1, 86_400)
moments = st.floats(0, 1e7)


@given(names, intervals, moments)
def test_the_first_collection_is_soon(name: str, interval: float, origin: float) -> None:
    assert origin <= Schedule(name, interval, origin).first() <= origin + min(0.25, interval) + 1e-6


@given(names, intervals, st.floats(0, 1e5), moments)
def test_no_gap_is_longer_than_the_interval(name: str, interval: float, origin: float, passed: float) -> None:
    now = origin + passed
    due = Schedule(name, interval, origin).regular(now)
    assert now < due + 1e-6
    assert due <= now + interval + 1e-6


def test_the_times_of_a_source_are_the_same_at_every_start_and_spread_over_the_interval() -> None:
    assert fraction("payments") == fraction("payments")
    spread = sorted(Schedule(f"source-{i}", 60, 0).regular(0) for i in range(500))
    assert max(later - earlier for earlier, later in itertools.pairwise(spread)) < 3


@given(st.integers(1, 60), st.booleans(), st.one_of(st.none(), st.floats(0, 1e9)))
def test_after_a_failure(failures: int, retryable: bool, retry_after: float | None) -> None:
    schedule, now = Schedule("payments", 30, 0), 1000.0
    due = schedule.after_failure(now, failures=failures, retryable=retryable, retry_after=retry_after)
    if retry_after is None:
        assert due <= schedule.regular(now)
    else:
        assert due >= now + min(retry_after, 3600)
    if not retryable:
        assert due >= schedule.regular(now)


def test_retries_back_off() -> None:
    schedule = Schedule("payments", 3600, 0)
    waits = [schedule.after_failure(10, failures=n, retryable=True, retry_after=None) - 10 for n in range(1, 6)]
    assert waits == [1, 2, 4, 8, 16]


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
    timeout: float = 10.0
    max_staleness: float = 150.0
    error: CollectError | None = None
    warnings: tuple[DataWarning, ...] = ()
    during: Callable[[], object] = lambda: None
    published: int = 0
    dropped: int = 0
    cancelled: int = 0
    deadlines: list[float] = field(default_factory=list)

    def run(self, now: datetime, deadline: float) -> Outcome:
        assert now.tzinfo is not None
        self.deadlines.append(deadline)
        self.during()
        if self.error is not None:
            raise self.error
        return Outcome(5, 10, self.warnings, self.publish)

    def publish(self) -> None:
        self.published += 1

    def cancel(self) -> None:
        self.cancelled += 1

    def drop(self) -> None:
        self.dropped += 1

    def close(self) -> None:
        pass


def slot_of(job: FakeJob, time: Time) -> Slot:
    return Slot(job, time.clock(), 1000)


def test_a_success_is_served_and_recorded() -> None:
    job, time = FakeJob(warnings=(DataWarning("not_a_number", 2, "a"), DataWarning("not_a_number", 3, "b"))), Time(7)
    slot = slot_of(job, time)
    slot.run_once()
    state = slot.state
    assert (job.published, job.deadlines) == (1, [1017])
    assert (state.attempts, state.failures, state.rows, state.series) == (1, 0, 5, 10)
    assert (state.last_success_at, state.fresh_since) == (1.8e9 + 7, 1007)
    assert state.warnings == {"not_a_number": 5}
    assert state.next_run is not None
    assert 1007 < state.next_run <= 1037


def test_each_metric_that_is_left_out_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    def lost(name: str) -> DataWarning:
        return DataWarning("missing_field", 1, f"{name} is left out: no field", metric=name)

    job = FakeJob()
    slot = slot_of(job, Time())
    told = []
    for warnings in ((lost("m_a"),), (lost("m_a"), lost("m_b")), (), (lost("m_a"),)):
        job.warnings = warnings
        slot.run_once()
        assert slot.state.last_warnings == warnings
        lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        told.append([name for name in ("m_a", "m_b") if any(f"metric={name}" in line for line in lines)])
    assert told == [["m_a"], ["m_b"], [], ["m_a"]]


def test_last_good_data_stays_until_max_staleness_and_comes_back() -> None:
    job, time = FakeJob(), Time()
    slot = slot_of(job, time)
    slot.run_once()
    job.error = Unreachable("gone")
    time.passed = 149
    slot.run_once()
    slot.watch()
    assert (job.dropped, slot.state.series, slot.state.failures) == (0, 10, 1)
    time.passed = 150
    slot.watch()
    slot.watch()
    assert (job.dropped, slot.state.series) == (1, 0)
    job.error = None
    slot.run_once()
    assert (job.published, slot.state.series, slot.state.failures) == (2, 10, 0)
    assert slot.state.last_failure is not None, "the page still tells what went wrong last"


def test_failures_are_counted_by_reason_and_retried_where_that_helps() -> None:
    job, time = FakeJob(interval=3600, error=Unreachable("gone")), Time()
    slot = slot_of(job, time)
    slot.run_once()
    slot.run_once()
    assert slot.state.next_run == 1002
    job.error = Denied("no")
    slot.run_once()
    assert slot.state.errors == {"unreachable": 2, "denied": 1}
    assert slot.state.next_run == Schedule("payments", 3600, 1000).regular(1000)
    job.error = RateLimited("slow down", retry_after=50)
    slot.run_once()
    assert slot.state.next_run == 1050


def test_a_hung_run_is_given_up_once_and_its_late_data_is_not_used() -> None:
    job, time = FakeJob(), Time()
    slot = slot_of(job, time)

    def hang() -> None:
        time.passed = 10.4
        slot.watch()
        assert slot.state.failures == 0, "a collector may still end by itself"
        time.passed = 11
        slot.watch()
        time.passed = 20
        slot.watch()
        assert (slot.state.failures, slot.state.overdue, slot.state.next_run) == (1, True, None)
        assert slot.state.attempts == 1

    job.during = hang
    slot.run_once()
    state = slot.state
    assert (job.cancelled, job.published) == (1, 0)
    assert (state.errors, state.attempts, state.overdue) == ({"timeout": 1}, 1, False)
    assert state.next_run is not None
    assert state.next_run > 1020


def test_a_run_that_the_stop_cancels_is_no_failure() -> None:
    job, time = FakeJob(error=Unreachable("cancelled")), Time()
    slot = slot_of(job, time)
    job.during = slot.cancel
    slot.run_once()
    assert (job.cancelled, slot.state.failures) == (1, 0)


def test_a_source_whose_credentials_are_refused_is_not_tried_again() -> None:
    job = FakeJob(error=Unauthorized("401"))
    slot = slot_of(job, Time(5))
    slot.loop(threading.Event())
    assert (slot.state.failures, slot.state.next_run, len(job.deadlines)) == (1, None, 1)


def test_sources_run_side_by_side_and_stop_quickly() -> None:
    ran, release = threading.Event(), threading.Event()
    hung = FakeJob("hung", during=release.wait)
    hung.cancel = release.set  # type: ignore[method-assign]
    other = FakeJob("other", during=ran.set)
    scheduler = Scheduler([hung, other])
    scheduler.start()
    assert ran.wait(5), "a hung source does not delay another"
    assert not scheduler.ready
    scheduler.stop()
    assert release.is_set()


@pytest.mark.parametrize("attempts", [0, 1])
def test_ready_once_every_source_was_tried(attempts: int) -> None:
    scheduler = Scheduler([FakeJob("a"), FakeJob("b", error=Denied("no"))])
    for slot in scheduler.slots[: attempts + 1]:
        slot.run_once()
    assert scheduler.ready == (attempts == 1)
