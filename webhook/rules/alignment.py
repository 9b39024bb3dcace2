"""When Prometheus evaluates a group: every interval, shifted by a hash of the group's name and file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import xxhash

from webhook.adapters.prometheus_api import RunningGroup

_NS = 1_000_000_000
_LONG = 255
"""Bytes from which on a length takes four."""


def offset_ms(name: str, file: str, interval: float, running: Sequence[RunningGroup]) -> int:
    """By how many milliseconds its evaluations come after the whole intervals since 1970.

    A group that Prometheus does not run yet is taken to go beside the files that it does.
    """
    same = [group for group in running if group.name == name and group.interval == interval]
    same.sort(key=lambda group: PurePosixPath(group.file).name != PurePosixPath(file).name)
    if same:
        path = same[0].file
    elif running:
        path = str(PurePosixPath(running[0].file).parent / PurePosixPath(file).name)
    else:
        path = file
    seen = next((group for group in (*same, *running) if group.evaluated is not None), None)
    return _offset(name, path, interval, _spelling(seen)) // 1_000_000


def _spelling(group: RunningGroup | None) -> int:
    """Prometheus hashes labels in one of two ways, by its version: the one that fits when this group was evaluated."""
    if group is None or group.evaluated is None:
        return 0
    began = round(group.evaluated.timestamp() * 1_000_000) * 1000

    def late(spelling: int) -> int:
        interval = round(group.interval * _NS)
        return (began - _offset(group.name, group.file, group.interval, spelling)) % interval

    return min((0, 1), key=late)


def _offset(name: str, file: str, interval: float, spelling: int) -> int:
    """Nanoseconds."""
    parts = [part.encode() for part in ("file", file, "name", name)]
    if spelling == 0:
        data = b"".join(part + b"\xff" for part in parts)
    else:
        data = b"".join(_length(part) + part for part in parts)
    return int(xxhash.xxh64_intdigest(data)) % round(interval * _NS)


def _length(part: bytes) -> bytes:
    size = len(part)
    return bytes([size]) if size < _LONG else b"\xff" + size.to_bytes(3, "little")
