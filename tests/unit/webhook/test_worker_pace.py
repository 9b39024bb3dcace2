"""How long a message waits for the worker: what is due within a second of the decision cannot wait for a look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.worker import Worker


class Pauses(threading.Event):
    """Notes for how long the dispatching loop would pause instead of waiting; set after `enough` pauses."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.noted, self._enough = list[float](), enough

    def wait(self, timeout: float | None = None) -> bool:
        if threading.current_thread() is not threading.main_thread():
            return super().wait()  # the sweep's
        self.noted.append(timeout or 0)
        if len(self.noted) == self._enough:
            self.set()
        return self.is_set()


def make_worker(run_once: Callable[[datetime], int] = lambda _now: 0, **changes: Any) -> Worker:
    ends: Any = {"finish": lambda _seconds: None, "close": lambda _seconds: None, "busy": bool}
    dispatcher: Any = SimpleNamespace(run_once=run_once, full=bool, **ends)
    nothing: Any = SimpleNamespace(run_once=lambda _now: SimpleNamespace(counts=dict), depth=dict)
    leases: Any = SimpleNamespace(hold=lambda *_: False, give_back=lambda _name: None)
    parts: dict[str, Any] = {
        "dispatcher": dispatcher,
        "sweep": nothing,
        "reconciliation": SimpleNamespace(run_once=lambda _now: 0, interval=timedelta(minutes=1)),
        "follow": nothing,
        "purge": nothing,
        "leases": leases,
        "outbox": nothing,
        "metrics": DeliveryMetrics(CollectorRegistry()),
        "sweep_interval": timedelta(hours=1),
        "clock": lambda: datetime.now(UTC),
        "close": lambda: None,
        "why_unready": str,
    }
    return Worker(**{**parts, **changes})


def test_an_idle_worker_looks_ten_times_a_second_and_a_busy_one_at_once() -> None:
    claimed = iter([0, 8, 8, 0, 0])
    looks: list[int] = []

    def run_once(_now: datetime) -> int:
        looks.append(next(claimed))
        return looks[-1]

    stop = Pauses(enough=3)
    make_worker(run_once).run(stop)
    assert looks == [0, 8, 8, 0, 0]
    assert max(stop.noted) <= 0.1


def test_each_loop_is_missed_by_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("webhook.worker.monotonic", lambda: now)
    worker = make_worker(sweep_interval=timedelta(seconds=15))
    worker.turned.update(dict.fromkeys(("dispatch", "sweep", "purge"), now))
    told = {}
    for minutes in (1, 2.1, 2.5, 69, 71):
        now = 1000 + minutes * 60
        told[minutes] = worker.stuck()
    assert told[1] == ""
    assert told[2.1] == "no round of dispatch for 0:02:00"
    assert told[2.5] == told[69] == "no round of dispatch for 0:02:00; no round of sweep for 0:02:15"
    assert "purge for 1:10:00" in told[71]


def test_only_the_leader_tells_what_is_in_the_outbox() -> None:
    """Else the sum over all workers is more than there is; whoever cannot ask does not know that it leads."""
    registry, answers = CollectorRegistry(), iter([True, False, True, ConnectionError()])

    def hold(*_: object) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    worker = make_worker(
        leases=SimpleNamespace(hold=hold),
        outbox=SimpleNamespace(depth=lambda: {"PENDING": 3}, oldest_due=lambda _now: timedelta(seconds=90)),
        metrics=DeliveryMetrics(registry),
    )
    shown = []
    for _ in range(4):
        with suppress(ConnectionError):
            worker._sweep()
        pending = registry.get_sample_value("sentinel_outbox", {"status": "PENDING"})
        waits = registry.get_sample_value("sentinel_outbox_oldest_seconds")
        shown.append((registry.get_sample_value("sentinel_sweep_leader"), pending, waits))
    assert shown == [(1, 3, 90), (0, None, 0), (1, 3, 90), (0, None, 0)]
