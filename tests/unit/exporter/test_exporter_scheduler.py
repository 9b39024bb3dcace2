from __future__ import annotations

import itertools
import threading
from datetime import datetime

import pytest
from scheduler_parts import FakeCrew, FakeJob, Time, slot_of, tend
from servers import wait_for

from exporter.collectors.base import Measure
from exporter.cron import Cron
from exporter.errors import Denied, RateLimited, Unauthorized, Unreachable
from exporter.mapping.spec import DataWarning
from exporter.schedule import Schedule
from exporter.scheduler import Clock, Scheduler, Slot, Warm


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


def test_what_another_source_serves_already_is_told_and_not_counted_as_served() -> None:
    job = FakeJob(left_out=(DataWarning("duplicates", 4, "m is left out", metric="m"),))
    slot = slot_of(job, Time())
    slot.run_once()
    assert (slot.state.series, slot.state.warnings, slot.state.last_warnings) == (6, {"duplicates": 4}, job.left_out)


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
    slot.claim()
    assert (job.dropped, slot.state.series, slot.state.failures) == (0, 10, 1)
    time.passed = 150
    slot.claim()
    slot.claim()
    assert (job.dropped, slot.state.series) == (1, 0)
    job.error = None
    slot.run_once()
    assert (job.published, slot.state.series, slot.state.failures) == (2, 10, 0)
    assert slot.state.last_failure is not None, "the page still tells what went wrong last"


def test_data_that_cannot_be_published_is_a_failed_attempt() -> None:
    time, told = Time(), []
    job = FakeJob(measures=(Measure("bytes_total", "", 5.0, "counter"),))
    slot = slot_of(job, time)

    def broken() -> tuple[DataWarning, ...]:
        raise Unreachable("no")

    working, job.publish = job.publish, broken  # type: ignore[method-assign]
    job.published_hook = lambda: told.append("published")
    slot.run_once()
    state = slot.state
    assert (state.attempts, state.failures, state.running_since, told) == (1, 1, None, [])
    assert dict(state.measured.by_name["bytes_total"].values) == {(): 5.0}, "once"
    job.publish = working  # type: ignore[method-assign]
    slot.run_once()
    assert (slot.state.attempts, slot.state.failures, told) == (2, 0, ["published"])


def test_failures_are_counted_by_reason_and_retried_where_that_helps() -> None:
    job, time = FakeJob(interval=3600, error=Unreachable("gone")), Time()
    slot = slot_of(job, time)
    slot.run_once()
    slot.run_once()
    assert slot.state.next_run == 1002
    job.error = Denied("no")
    slot.run_once()
    assert slot.state.errors == {"unreachable": 2, "denied": 1}
    assert slot.state.next_run == Schedule("payments", 3600, 1000).regular(1000, 0)
    job.error = RateLimited("slow down", retry_after=50)
    slot.run_once()
    assert slot.state.next_run == 1050


def test_a_hung_run_is_given_up_once_and_its_late_data_is_not_used() -> None:
    job, time = FakeJob(), Time()
    slot = slot_of(job, time)

    def hang() -> None:
        time.passed = 10.4
        tend(slot)
        assert slot.state.failures == 0, "a collector may still end by itself"
        time.passed = 11
        tend(slot)
        time.passed = 20
        tend(slot)
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
    job.during = lambda: slot.cancel(lambda work: work())
    slot.run_once()
    assert (job.cancelled, slot.state.failures) == (1, 0)
    assert (job.closed, slot.closed.is_set()) == (1, True), "only once its run has ended"


def test_a_source_that_is_given_up_publishes_nothing_any_more_and_is_not_run_again() -> None:
    job, time = FakeJob(), Time()
    slot = slot_of(job, time)
    job.during = lambda: slot.cancel(lambda work: work())
    slot.run_once()
    time.passed = 100
    assert (job.published, slot.due, tend(slot)) == (0, None, False)


def test_a_stopped_source_is_asked_again_only_when_a_secret_has_changed() -> None:
    job, time = FakeJob(error=Unauthorized("401"), secrets=[False, True]), Time(5)
    slot = slot_of(job, time)
    slot.run_once()
    assert (slot.state.stopped, slot.state.next_run, slot.state.attempts) == (True, None, 1)
    assert slot.due is not None
    assert slot.due <= 1035, "its secrets are looked at once an interval"
    time.passed = 35
    assert tend(slot)
    assert (slot.state.attempts, len(job.deadlines), slot.state.stopped) == (1, 1, True)
    job.error = None
    time.passed = 65
    assert tend(slot)
    assert (slot.state.attempts, slot.state.failures, slot.state.stopped) == (2, 0, False)
    assert slot.state.next_run is not None


def test_a_reload_tries_a_stopped_source_again_and_leaves_others_to_their_schedule() -> None:
    job, time = FakeJob(error=Unauthorized("401")), Time(5)
    slot = slot_of(job, time)
    slot.run_once()
    slot.resume()
    assert slot.state.next_run == 1005
    assert tend(slot)
    assert slot.state.attempts == 2
    job.error = Unreachable("gone")
    slot.resume()
    tend(slot)
    due = slot.state.next_run
    slot.resume()
    assert slot.state.next_run == due


def test_measures_are_kept_of_failed_and_of_late_runs_too() -> None:
    job, time = FakeJob(measures=(Measure("bytes_billed", "Bytes.", 10, "counter"),)), Time()
    slot = slot_of(job, time)
    slot.run_once()
    job.error = Denied("no")
    slot.run_once()

    def hang() -> None:
        time.passed += 20
        tend(slot)

    job.during, job.error = hang, None
    slot.run_once()
    assert slot.state.measured.by_name["bytes_billed"].values == {(): 30}


def test_warm_data_has_its_age_is_ready_and_expires() -> None:
    job, time = FakeJob(), Time()
    slot = Slot(job, time.clock(), Schedule("payments", 30, 1000), warm=Warm(100, 5, 10))
    state = slot.state
    assert (state.fresh_since, state.last_success_at, state.rows, state.series) == (900, 1.8e9 - 100, 5, 10)
    assert (state.warm, state.tried, state.attempts) == (True, True, 0)
    time.passed = 50
    slot.claim()
    assert (job.dropped, slot.state.series) == (1, 0)
    slot.run_once()
    assert (slot.state.warm, slot.state.series) == (False, 10)


def test_a_cron_source_notices_that_the_wall_clock_was_set() -> None:
    time = Time()
    wall = [datetime.fromisoformat("2026-11-21T05:00:00+00:00").timestamp()]
    clock = Clock(lambda: 1000 + time.passed, lambda: wall[0] + time.passed)
    job = FakeJob(interval=86_400, cron=Cron("0 6 * * *"))
    slot = Slot(job, clock, Schedule("payments", 86_400, 1000, job.cron))
    slot.run_once()
    planned = slot.state.next_run
    assert planned is not None
    assert 1000 + 3600 <= planned <= 1000 + 3660
    wall[0] += 1800
    time.passed = 60
    assert slot.due is not None
    assert slot.due <= 1060
    assert slot.claim() is None
    assert slot.state.next_run == pytest.approx(planned - 1800)


def test_sources_run_side_by_side_and_stop_quickly() -> None:
    ran, release = threading.Event(), threading.Event()
    hung = FakeJob("hung", during=release.wait)
    hung.cancel = release.set  # type: ignore[method-assign]
    other = FakeJob("other", during=ran.set)
    scheduler = Scheduler([hung, other])
    scheduler.start()
    assert ran.wait(60), "a hung source does not delay another"
    assert not scheduler.ready
    scheduler.stop()
    assert release.is_set()
    assert (hung.closed, other.closed) == (1, 1)


def test_a_source_whose_cancelling_hangs_too_delays_no_other() -> None:
    release, runs = threading.Event(), itertools.count(1)
    seen: list[int] = []
    hung = FakeJob("hung", timeout=0.01, during=release.wait)
    hung.cancel = release.wait  # type: ignore[assignment, method-assign]
    other = FakeJob("other", interval=0.1, during=lambda: seen.append(next(runs)))
    scheduler = Scheduler([hung, other])
    scheduler.start()
    wait_for(lambda: scheduler.states[0].overdue, what="given up")
    count = len(seen)
    wait_for(lambda: len(seen) > count + 3, what="other goes on", timeout=60)
    release.set()
    scheduler.stop()


def test_hundreds_of_quick_sources_are_all_tried_and_closed() -> None:
    jobs = [FakeJob(f"source-{i}", interval=1.0) for i in range(200)]
    scheduler = Scheduler(jobs)
    scheduler.start()
    wait_for(lambda: scheduler.ready, what="all tried", timeout=60)
    scheduler.stop(timeout=60)
    assert all(job.closed for job in jobs)


def test_hundreds_of_sources_need_few_threads() -> None:
    time = Time()
    crew = FakeCrew(time, seconds=0.1)
    scheduler = Scheduler([FakeJob(f"source-{i}") for i in range(200)], time.clock())
    scheduler._crew = crew  # type: ignore[assignment]
    for slot in scheduler.slots:
        scheduler._arrange(slot)
    while time.passed < 100:
        time.passed = min([*scheduler._due.values(), *crew.ends]) - 1000 + 1e-6  # floats are not exact
        crew.finish()
        for slot in [slot for slot, at in scheduler._due.items() if at <= 1000 + time.passed]:
            del scheduler._due[slot]
            scheduler._tend(slot)
    assert {state.attempts for state in scheduler.states} <= {4, 5}
    assert crew.most < 15


def test_a_source_that_has_changed_waits_until_its_former_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.slot._WAIT_FOR_FORMER", 3600.0)
    before, job, time = slot_of(FakeJob(), Time()), FakeJob(timeout=30), Time()
    slot = Slot(job, time.clock(), Schedule(job.name, job.interval, 1000), after=before)
    run = threading.Thread(target=slot.run_once)
    run.start()
    run.join(0.1)
    assert not job.deadlines
    before.closed.set()
    run.join()
    assert len(job.deadlines) == 1


def test_replacing_keeps_runs_and_ends_sources() -> None:
    kept, gone, changed = FakeJob("kept"), FakeJob("gone"), FakeJob("changed")
    held = threading.Event()
    changed.during = held.wait
    changed.cancel = lambda: None  # type: ignore[method-assign]
    scheduler = Scheduler([kept, gone, changed])
    scheduler.start()
    wait_for(lambda: kept.published and gone.published and changed.deadlines, what="first runs")
    again, added = FakeJob("changed", timeout=5), FakeJob("added")
    scheduler.end(["gone", "changed"])
    scheduler.replace(["added", "changed", "kept"], [again, added], {})
    assert [state.name for state in scheduler.states] == ["added", "changed", "kept"]
    assert scheduler.states[2].attempts == 1
    wait_for(lambda: added.published, what="added runs")
    assert not again.deadlines, "two runs of one source at once"
    held.set()
    wait_for(lambda: again.published, what="changed runs after the old one has ended")
    assert (changed.published, gone.closed, changed.closed, kept.closed) == (0, 1, 1, 0)
    scheduler.stop()


@pytest.mark.parametrize("vanishes", [False, True])
def test_however_often_a_source_is_changed_its_runs_never_overlap(
    vanishes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.slot._WAIT_FOR_FORMER", 0.02)
    waits, former_ended = [0], Slot._former_ended

    def waited(slot: Slot) -> bool:
        found = former_ended(slot)
        waits[0] += slot.job is jobs[3]
        return found

    monkeypatch.setattr(Slot, "_former_ended", waited)
    release, now, most = threading.Event(), [0], [0]

    def during() -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        release.wait()
        now[0] -= 1

    jobs = [FakeJob(timeout=0.05, during=during) for _ in range(4)]
    scheduler = Scheduler(jobs[:1])
    scheduler.start()
    wait_for(lambda: jobs[0].deadlines, what="first run")
    for job in jobs[1:]:
        scheduler.end(["payments"])
        if vanishes:
            scheduler.replace([], [], {})
        scheduler.replace(["payments"], [job], {})
    wait_for(lambda: jobs[2].closed, what="the successor that never ran is closed")
    wait_for(lambda: waits[0] > 3, what="the last one has looked at the first time and again", timeout=60)
    assert (most[0], jobs[3].deadlines) == (1, [])
    release.set()
    wait_for(lambda: jobs[3].published, what="the last one runs after the first has ended")
    assert (most[0], jobs[1].deadlines, jobs[2].deadlines) == (1, [], [])
    scheduler.stop()


def test_nobody_hears_of_a_run_that_hangs_after_its_source_was_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    job, time = FakeJob(), Time()
    slot = slot_of(job, time)

    def hang() -> None:
        slot.cancel(lambda work: work())
        time.passed = 11
        assert tend(slot), "cancelled once more"
        assert not tend(slot)

    job.during = hang
    slot.run_once()
    assert (job.cancelled, slot.state.failures, job.closed) == (2, 0, 1)
    assert "collection failed" not in capsys.readouterr().out
