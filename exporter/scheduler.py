"""Runs each source on its schedule: never two runs at once, none in the way of another, those that hang given up.

One thread waits for the next time at which a slot has something to do. What it has to do (collect, cancel, close) is
done in threads of a crew, so that nothing that waits for a source can delay another.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

import structlog

from exporter.crew import Crew
from exporter.schedule import Schedule, first_spread
from exporter.slot import Slot
from exporter.source_state import Clock, Failure, Job, Outcome, SourceState, Warm

__all__ = ["Clock", "Failure", "Job", "Outcome", "Scheduler", "Slot", "SourceState", "Warm"]
_AFTER_FAULT = 30.0  # seconds until a source that the schedule stumbled over is looked at again
log = structlog.get_logger()


class Scheduler:
    """All sources' slots."""

    def __init__(self, jobs: Iterable[Job], clock: Clock | None = None, warm: Mapping[str, Warm] | None = None) -> None:
        self._clock = clock or Clock()
        self._origin = self._clock.monotonic()
        self._changed = threading.Condition()
        self._due: dict[Slot, float] = {}
        self._wakes: float | None = None
        self._stopped = False
        self._ready = False
        self._crew = Crew("source")
        self._pulse = threading.Thread(target=self._beat, name="schedule", daemon=True)
        self._slots: tuple[Slot, ...] = self._made(jobs, warm or {})
        self._gone: dict[str, Slot] = {}

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self._slots

    @property
    def states(self) -> tuple[SourceState, ...]:
        return tuple(slot.state for slot in self._slots)

    @property
    def ready(self) -> bool:
        """Whether every source was tried once, or is served from before a restart; sources added later do not count."""
        self._ready = self._ready or all(state.tried for state in self.states)
        return self._ready

    @property
    def healthy(self) -> bool:
        """Whether the schedule goes on, or has not begun."""
        return self._pulse.ident is None or self._pulse.is_alive()

    def start(self) -> None:
        for slot in self._slots:
            self._arrange(slot)
        self._pulse.start()

    def replace(self, order: Iterable[str], new: Iterable[Job], warm: Mapping[str, Warm]) -> None:
        """Run the sources named in `order`: those that `new` has a job for anew, the others as they did before.

        All others must have been given up with `end`.
        """
        self._ready = self.ready  # nobody may have asked since the last source was tried
        kept = {slot.job.name: slot for slot in self._slots}
        before = self._gone | kept
        added = {slot.job.name: slot for slot in self._made(new, warm, before)}
        self._slots = tuple(added.get(name) or kept[name] for name in order)
        going = {name: slot for name, slot in before.items() if slot not in self._slots}
        self._gone = {name: slot for name, slot in going.items() if not slot.ended}  # it may come back before its end
        for slot in self._slots:
            slot.resume()
            self._arrange(slot)

    def end(self, names: Iterable[str]) -> None:
        """Run these sources no more: running collections are cancelled, and what they bring is not used."""
        gone = set(names)
        for slot in self._slots:
            if slot.job.name in gone:
                slot.cancel(self._crew.run)

    def stop(self, timeout: float = 1.0) -> None:
        """Start nothing more, cancel what runs, and wait at most `timeout` seconds for it to end."""
        end = monotonic() + timeout
        with self._changed:
            self._stopped = True
            self._changed.notify()
        for slot in self._slots:
            slot.cancel(self._crew.run)
        if self._pulse.ident is not None:
            self._pulse.join(timeout)
        for slot in self._slots:
            slot.closed.wait(max(0.0, end - monotonic()))

    def _made(
        self, jobs: Iterable[Job], warm: Mapping[str, Warm], before: Mapping[str, Slot] | None = None
    ) -> tuple[Slot, ...]:
        listed = list(jobs)
        spread = first_spread(len(listed))
        return tuple(
            Slot(
                job,
                self._clock,
                Schedule(job.name, job.interval, self._origin, job.cron),
                spread=spread,
                warm=warm.get(job.name),
                after=(before or {}).get(job.name),
            )
            for job in listed
        )

    def _beat(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                now = self._clock.monotonic()
                ready = [slot for slot, at in self._due.items() if at <= now]
                for slot in ready:
                    del self._due[slot]
                if not ready:
                    self._wakes = min(self._due.values(), default=None)
                    self._changed.wait(None if self._wakes is None else max(0.0, self._wakes - now))
                    self._wakes = now
            for slot in ready:
                self._tend(slot)

    def _tend(self, slot: Slot) -> None:
        """A fault with one source must not end the schedule of the others."""
        try:
            work = slot.claim()
            if work is not None:
                self._crew.run(self._then_arrange(slot, work))
            self._arrange(slot)
        except Exception:  # noqa: BLE001 - ours, whatever it is, and logged
            self._stumbled(slot)

    def _then_arrange(self, slot: Slot, work: Callable[[], None]) -> Callable[[], None]:
        def done() -> None:
            try:
                work()
                self._arrange(slot)
            except Exception:  # noqa: BLE001 - ours, whatever it is, and logged
                self._stumbled(slot)

        return done

    def _stumbled(self, slot: Slot) -> None:
        """Log a fault of the exporter itself, and look at the source again later."""
        log.error("internal error", source=slot.job.name, traceback=traceback.format_exc())
        with self._changed:
            self._due[slot] = self._clock.monotonic() + _AFTER_FAULT
            self._changed.notify()

    def _arrange(self, slot: Slot) -> None:
        """Note when the slot has to be looked at next, and wake the schedule's thread if that is earlier."""
        with self._changed:
            due = slot.due  # asked for here: of two threads that arrange a slot, the later one must not know less
            if due is None:
                self._due.pop(slot, None)
                return
            self._due[slot] = due
            if self._wakes is None or due < self._wakes:
                self._changed.notify()
