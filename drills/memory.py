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
        """MiB an hour over the last two thirds: by Theil and Sen, whom a few stray samples do not move."""
        if not self.samples:
            return 0.0
        began, ended = self.samples[0][0], self.samples[-1][0]
        late = [one for one in self.samples if one[0] >= began + (ended - began) / 3]
        late = late[:: max(1, len(late) // 200)]
        slopes = [
            (size - earlier) / (at - before)
            for number, (before, earlier) in enumerate(late)
            for at, size in late[number + 1 :]
            if at > before
        ]
        return 3600 * statistics.median(slopes) if slopes else 0.0

    def grown(self) -> float:
        """MiB from the beginning of the last two thirds to the end, by that slope."""
        return self.an_hour() * (self.samples[-1][0] - self.samples[0][0]) * 2 / 3 / 3600 if self.samples else 0.0


def sample(growths: Mapping[str, Growth], pids: Mapping[str, int], at: float) -> None:
    """Add the proportional set size (PSS) of each: what processes share counts once."""
    for name, pid in pids.items():
        size = sum(_pss(one) for one in tree(pid))
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


def _pss(pid: int) -> int:
    """KiB; the resident size where PSS may not be read, as of another user's process."""
    for path, name in ((f"/proc/{pid}/smaps_rollup", "Pss:"), (f"/proc/{pid}/status", "VmRSS:")):
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
