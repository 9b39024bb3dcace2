"""Programs of a drill: each can be killed, stopped, held stopped and started again, and none outlives the drill."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests import servers

_RESTART_S = 0.5
"""A supervisor waits so long before it starts again what has ended."""

_STOP_WITHIN_S = 20


@dataclass
class Program:
    """One program, in a process group of its own. Its log comes through a pipe: a limit on files is none on that."""

    name: str
    command: Sequence[str]
    folder: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    kept: bool = True
    """Whether the supervisor starts it again when it ends by itself."""

    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """In another thread: an interrupt comes to this one, and must not come between a process and its note."""
        with ThreadPoolExecutor(1) as apart:
            apart.submit(self._start_if_gone).result()
        if wait:
            self.wait_until_ready()

    def _start_if_gone(self) -> None:
        with self._lock:
            if not self.alive():
                self._start()

    def _start(self) -> None:
        self.starts += 1
        self._process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            user=self.user,
            start_new_session=True,
        )
        threading.Thread(target=self._keep_log, args=(self._process.stdout,), daemon=True).start()

    def _keep_log(self, lines: IO[bytes]) -> None:
        with self.log.open("ab") as log, lines:
            for line in lines:
                log.write(line)
                log.flush()

    def wait_until_ready(self) -> None:
        servers.wait_for(self._ready_or_dead, what=f"{self.name} ready", timeout=120)

    def _ready_or_dead(self) -> bool:
        if not self.alive() and not self.kept:
            raise RuntimeError(f"{self.name} ended with {self._process and self._process.returncode}:\n{self.tail()}")
        return self.alive() and self.ready()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL to all of its processes, as when the machine takes it away."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """It stays stopped until somebody starts it."""
        with self._lock:
            self.kept = False
        if self._process is None:
            return
        self._process.send_signal(number)  # its first process alone: it ends the others in its own way
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._signal(signal.SIGKILL)  # what it has left behind

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    def revive(self) -> None:
        """What a supervisor does: start it again when it has ended by itself."""
        with self._lock:
            if self.kept and self._process is not None:
                self._start_if_gone()


@contextmanager
def supervised(programs: Sequence[Program]) -> Iterator[None]:
    """While inside, whatever of `programs` ends is started again, as systemd or Kubernetes would; then all end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_RESTART_S):
            for program in programs:
                program.revive()

    watcher = threading.Thread(target=watch, name="supervisor")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for program in reversed(programs):
            program.stop()
