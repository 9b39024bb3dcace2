"""When a schedule says that it is healthy, that it is ready, and that it goes on whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from scheduler_parts import FakeJob
from servers import wait_for

from exporter.errors import Denied
from exporter.scheduler import Scheduler


def test_a_schedule_that_has_ended_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler([FakeJob()])
    assert scheduler.healthy, "not started yet"
    monkeypatch.setattr(scheduler, "_pulse", threading.Thread(target=lambda: None))
    scheduler.start()
    wait_for(lambda: not scheduler.healthy, what="ended")


@pytest.mark.parametrize("tried", [True, False])
def test_a_source_that_is_added_later_leaves_a_ready_exporter_ready(tried: bool) -> None:
    scheduler = Scheduler([FakeJob("a")])
    if tried:
        scheduler.slots[0].run_once()
    scheduler.replace(["a", "b"], [FakeJob("b")], {})
    assert scheduler.ready == tried


@pytest.mark.parametrize("attempts", [0, 1])
def test_ready_once_every_source_was_tried(attempts: int) -> None:
    scheduler = Scheduler([FakeJob("a"), FakeJob("b", error=Denied("no"))])
    for slot in scheduler.slots[: attempts + 1]:
        slot.run_once()
    assert scheduler.ready == (attempts == 1)


def test_a_fault_with_one_source_ends_neither_the_schedule_nor_that_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("exporter.scheduler._AFTER_FAULT", 0.05)
    faults = {"drop": iter([True, True]), "publish": iter([True])}

    def breaks(what: str) -> Callable[[], None]:
        def call() -> None:
            if next(faults[what], False):
                raise LookupError(f"cannot {what}")

        return call

    dropping = FakeJob("dropping", interval=0.1, max_staleness=0.02)
    dropping.drop = breaks("drop")  # type: ignore[method-assign]
    publishing = FakeJob("publishing", interval=0.1)
    publishing.publish = breaks("publish")  # type: ignore[method-assign]
    other = FakeJob("other", interval=0.1)
    scheduler = Scheduler([dropping, publishing, other])
    scheduler.start()
    jobs = (dropping, publishing, other)
    wait_for(lambda: all(len(job.deadlines) > 4 for job in jobs), what="all go on", timeout=60)
    assert scheduler.healthy
    scheduler.stop()
    told = capsys.readouterr().out
    assert "cannot drop" in told
    assert "cannot publish" in told
