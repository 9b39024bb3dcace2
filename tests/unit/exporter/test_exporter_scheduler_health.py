"""When a schedule says that it is healthy, and that it is ready."""

from __future__ import annotations

import threading

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
