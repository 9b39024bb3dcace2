"""Which sources an exporter of several takes: rendezvous hashing on the source's name. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TEXT = re.compile(r"(\d{1,4})/(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, counted from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `0/3`, `1/3` or `2/3`; ValueError for anything else."""
        match = _TEXT.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is no shard: write its number, counted from 0, and how many there are: 0/3")
        index, count = int(match[1]), int(match[2])
        if index >= count:
            raise ValueError(
                f"there is no shard {text}: of {count}, the first is 0/{count}, the last {count - 1}/{count}"
            )
        return cls(index, count)

    def has(self, source: str) -> bool:
        """Whether this shard takes the source. Of `count` + 1 shards, the new one takes some, and no other changes."""
        return max(range(self.count), key=lambda index: _weight(source, index)) == self.index


def _weight(source: str, index: int) -> bytes:
    return hashlib.blake2b(f"{index}/{source}".encode(), digest_size=8).digest()
