"""honcho, made to stop whole: whatever ends the supervisor, no process of the stack outlives it."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Message, Printer

STOPPED_BY_A_PERSON = (130, 143)
_GRACE_S = 8.0
_UNKNOWN_PID_S = 0.1


class _Printer(Printer):  # type: ignore[misc] # honcho ships no types
    """Goes on in silence when nobody reads any more, and says so once."""

    def __init__(self, reader_gone: Callable[[], None]) -> None:
        super().__init__()
        self._reader_gone = reader_gone
        self._silent = False

    def write(self, message: Message) -> None:
        if self._silent:
            return
        try:
            super().write(message)
        except OSError:  # the terminal was closed, or the pipe's reader ended
            self._silent = True
            self._reader_gone()


class _Manager(Manager):  # type: ignore[misc] # honcho ships no types
    def __init__(self) -> None:
        super().__init__(_Printer(self.terminate))

    def terminate(self) -> None:
        """As honcho does it, but not before every process has told its pid: it would fail on the first without."""
        if self._all_started():
            super().terminate()
        else:
            threading.Timer(_UNKNOWN_PID_S, self.terminate).start()

    def end_all(self) -> None:
        """Leave no process behind, however the loop was left."""
        self._learn_pids()
        groups = [process["pid"] for process in self._processes.values() if "returncode" not in process]
        _end(groups, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while _alive(groups) and time.monotonic() < deadline:
            time.sleep(0.05)
        _end(groups, signal.SIGKILL)

    def _learn_pids(self) -> None:
        """Take the starts that the loop has not read; a process that has not started by then has no pid to miss."""
        while not self._all_started():
            try:
                event = self.events.get(timeout=1)
            except queue.Empty:
                return
            if event.type == "start":
                self._processes[event.name]["pid"] = event.data["pid"]


def _end(groups: list[int], number: signal.Signals) -> None:
    for group in groups:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            continue


def _alive(groups: list[int]) -> bool:
    for group in groups:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            continue
        return True
    return False


def supervise(procfile: Path, environment: Mapping[str, str], started: Callable[[], None]) -> int:
    """Run a Procfile until a person stops it (0) or one process ends (its exit code, never 0).

    `started` runs in a thread of its own. Ctrl-C, SIGTERM, a closed terminal and a broken pipe all stop everything.
    """
    manager = _Manager()
    for name, command in parse_procfile(procfile.read_text()).processes.items():
        manager.add_process(name, command, env=dict(environment), cwd=str(procfile.parent))
    signal.signal(signal.SIGHUP, _as_sigterm)
    threading.Thread(target=started, daemon=True).start()
    try:
        manager.loop()
    finally:
        manager.end_all()
    code = int(manager.returncode or 1)
    if code in STOPPED_BY_A_PERSON:
        return 0
    return code if code > 0 else 128 - code  # ended by a signal, as shells count it


def _as_sigterm(_number: int, _frame: Any) -> None:  # noqa: ANN401 - a frame, or nothing
    os.kill(os.getpid(), signal.SIGTERM)
