"""What a process and its children cost, read from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_MEBIBYTE = 1024  # VmHWM is in KiB


class Process:
    """A program under measurement, and all that it has started."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.started = time.perf_counter()
        self._log = folder / "log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise when the program has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self._log.read_text()[-2000:]}")

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system."""
        return cpu_of(self._process.pid)

    def idle_cpu(self, quiet: float = 1.0, longest: float = 300.0) -> float:
        """Seconds of CPU at the moment when nothing more has been used for `quiet` seconds."""
        deadline = time.perf_counter() + longest
        last, since = self.cpu(), time.perf_counter()
        while time.perf_counter() - since < quiet:
            self.check()
            if time.perf_counter() > deadline:
                raise RuntimeError(f"still busy after {longest:g} s:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)
            used = self.cpu()
            if used - last > 0.02 * quiet:  # a clock that ticks is no work
                last, since = used, time.perf_counter()
        return last

    def peak_memory(self) -> float:
        """MiB: the largest resident size that each process has had, added up."""
        return sum(_peak(pid) for pid in _tree(self._process.pid)) / _MEBIBYTE

    def threads(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in _tree(self._process.pid))

    def end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


@contextmanager
def measured(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    process = Process(command, folder, environment)
    try:
        yield process
    finally:
        process.end()


def cpu_of(pid: int) -> float:
    """Seconds of CPU, user and system, of a process and of all that it has started, what has ended since included."""
    return sum(_cpu(found) for found in _tree(pid))


def _tree(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += map(int, children.read_text().split())
    return found


def _cpu(pid: int) -> float:
    """Its own, and that of children which it has waited for; none once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0
