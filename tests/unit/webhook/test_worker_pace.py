"""How long a message waits for the worker: what is due within a second of the decision cannot wait for a look."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

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


def test_an_idle_worker_looks_ten_times_a_second_and_a_busy_one_at_once() -> None:
    claimed = iter([0, 8, 8, 0, 0])
    looks: list[int] = []

    def run_once(_now: datetime) -> int:
        looks.append(next(claimed))
        return looks[-1]

    dispatcher: Any = SimpleNamespace(run_once=run_once, finish=lambda _seconds: None, close=lambda: None)
    nothing: Any = SimpleNamespace(run_once=lambda _now: SimpleNamespace(counts=dict), depth=dict)
    leases: Any = SimpleNamespace(hold=lambda *_: False, give_back=lambda _name: None)
    worker = Worker(
        dispatcher=dispatcher,
        sweep=nothing,
        purge=nothing,
        leases=leases,
        outbox=nothing,
        metrics=DeliveryMetrics(CollectorRegistry()),
        sweep_interval=timedelta(hours=1),
        clock=lambda: datetime.now(UTC),
        close=lambda: None,
    )
    stop = Pauses(enough=3)
    worker.run(stop)
    assert looks == [0, 8, 8, 0, 0]
    assert max(stop.noted) <= 0.1
