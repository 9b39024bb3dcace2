"""What is served: immutable blocks of exposition text, joined at a scrape.

A block is one metric family's lines from one source, rendered and compressed when the source was collected. Its gzip
form is a whole gzip member, and members one after another are a valid gzip stream (RFC 1952, 2.2), so a scrape
compresses nothing. A source's blocks are replaced all at once; a scrape sees either the old ones or the new ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isal import igzip

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FASTEST = 1


@dataclass(frozen=True, slots=True)
class Block:
    """Exposition text and the same as one gzip member."""

    text: bytes
    gzip: bytes

    @classmethod
    def of(cls, text: bytes) -> Block:
        return cls(text, igzip.compress(text, _FASTEST))


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family as its header tells it."""

    name: str
    type: str
    help: str

    def header(self) -> bytes:
        text = self.help.replace("\\", r"\\").replace("\n", r"\n").replace("\0", "")
        return f"# HELP {self.name} {text}\n# TYPE {self.name} {self.type}\n".encode()


@dataclass(frozen=True, slots=True)
class _View:
    """All that a scrape sends, in order, in both forms."""

    text: tuple[bytes, ...] = ()
    gzip: tuple[bytes, ...] = ()


class Exposition:
    """The blocks of all sources. Any thread may scrape, each source's own thread publishes."""

    def __init__(self, families: Iterable[Family], sources: Sequence[str]) -> None:
        """Families are served in the given order, the first of a name giving its header; so are sources within one."""
        self._headers: dict[str, Block] = {}
        for family in families:
            if family.name not in self._headers:
                self._headers[family.name] = Block.of(family.header())
        self._blocks: dict[str, Mapping[str, Block]] = {name: {} for name in sources}
        self._view = _View()
        self._lock = threading.Lock()

    def publish(self, source: str, blocks: Mapping[str, Block]) -> None:
        """Replace everything of a source by blocks by family name; families without samples are left out."""
        with self._lock:
            self._blocks[source] = {name: block for name, block in blocks.items() if block.text}
            self._view = self._joined()

    def drop(self, source: str) -> None:
        """Serve nothing of a source any more."""
        self.publish(source, {})

    def parts(self, *, gzip: bool) -> tuple[bytes, ...]:
        """The whole exposition, to be sent one part after another."""
        view = self._view
        return view.gzip if gzip else view.text

    def _joined(self) -> _View:
        text: list[bytes] = []
        compressed: list[bytes] = []
        for family, header in self._headers.items():
            found = [block for blocks in self._blocks.values() if (block := blocks.get(family))]
            if found:
                text += [header.text, *(block.text for block in found)]
                compressed += [header.gzip, *(block.gzip for block in found)]
        return _View(tuple(text), tuple(compressed))
