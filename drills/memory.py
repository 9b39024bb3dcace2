"""What the processes of a run hold in memory, sampled, and whether it grows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_KIB = 1024


@dataclass
class Growth:
    """Samples of one program, its children with it: (s, MiB)."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    @property
    def last(self) -> float:
        return self.samples[-1][1] if self.samples else 0.0

    @property
    def highest(self) -> float:
        return max((size for _, size in self.samples), default=0.0)

    def an_hour(self) -> float:
        """MiB an hour over the second half: by Theil and Sen, whom a few stray samples do not move."""
        late = self._late()
        late = late[:: max(1, len(late) // 200)]
        slopes = [
            (size - earlier) / (at - before)
            for number, (before, earlier) in enumerate(late)
            for at, size in late[number + 1 :]
            if at > before
        ]
        return 3600 * statistics.median(slopes) if slopes else 0.0

    def grown(self) -> float:
        """MiB from the middle to the end, by that slope."""
        late = self._late()
        return self.an_hour() * (late[-1][0] - late[0][0]) / 3600 if late else 0.0

    def size(self) -> float:
        """Of the second half, the median in MiB."""
        return statistics.median(size for _, size in self._late()) if self.samples else 0.0

    def _late(self) -> list[tuple[float, float]]:
        if not self.samples:
            return []
        began, ended = self.samples[0][0], self.samples[-1][0]
        return [one for one in self.samples if one[0] >= (began + ended) / 2]


def sample(growths: Mapping[str, Growth], pids: Mapping[str, int], at: float) -> None:
    """Add what each holds itself, the anonymous part of its proportional set size: what forks share counts once.

    Files that it has mapped are left out: they cannot leak, and each count of them changes with whoever else on the
    machine runs Python.
    """
    for name, pid in pids.items():
        size = sum(_held(one) for one in tree(pid))
        if size:
            growths[name].samples.append((at, size / _KIB))


def tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    found, todo = list[int](), [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with suppress(OSError):
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                todo += map(int, children.read_text().split())
    return found


def _held(pid: int) -> int:
    """KiB; the resident size where that may not be read, as of another user's process."""
    for path, name in ((f"/proc/{pid}/smaps_rollup", "Pss_Anon:"), (f"/proc/{pid}/status", "VmRSS:")):
        with suppress(OSError):
            for line in Path(path).read_text().splitlines():
                if line.startswith(name):
                    return int(line.split()[1])
    return 0


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    ordered = sorted(values)
    if not ordered:
        return 0.0, 0.0, 0.0
    middle, high, highest = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
    return middle, high, highest
