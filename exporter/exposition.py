"""What is served: immutable blocks of exposition text, joined at a scrape.

A block is one metric family's lines from one source, rendered and compressed when the source was collected. Compressed
blocks are pieces of a raw deflate stream that end on a byte boundary and refer to nothing before them (a full flush),
so any of them can stand one after another. A scrape puts a gzip header before them and an empty last piece, their
joint CRC and length behind them, and compresses nothing. It is one gzip member: of several, which RFC 1952 allows too,
curl and browsers show only the first.

A source's blocks are replaced all at once; a scrape sees either the old ones or the new ones.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isal import isal_zlib

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FASTEST, _RAW = 1, -15
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # deflate, no name, no time, fastest, unknown system
_LAST_PIECE = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class Block:
    """Exposition text, the same as a piece of a deflate stream, and its CRC-32."""

    text: bytes
    deflated: bytes
    crc: int

    @classmethod
    def of(cls, text: bytes) -> Block:
        compressor = isal_zlib.compressobj(_FASTEST, wbits=_RAW)
        deflated = compressor.compress(text) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
        return cls(text, deflated, isal_zlib.crc32(text))


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks in the order in which they are sent, with the CRC-32 and the length of their whole text."""

    blocks: tuple[Block, ...] = ()
    crc: int = 0
    size: int = 0

    def then(self, *blocks: Block) -> Page:
        """A page with more blocks at its end."""
        crc, size = self.crc, self.size
        for block in blocks:
            crc = isal_zlib.crc32_combine(crc, block.crc, len(block.text))
            size += len(block.text)
        return Page((*self.blocks, *blocks), crc, size)

    def parts(self, *, gzip: bool) -> list[bytes]:
        """The page as text or as a gzip file, to be sent one part after another."""
        if not gzip:
            return [block.text for block in self.blocks]
        trailer = struct.pack("<II", self.crc, self.size & 0xFFFFFFFF)
        return [_GZIP_HEADER, *(block.deflated for block in self.blocks), _LAST_PIECE + trailer]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family as its header tells it."""

    name: str
    type: str
    help: str

    def header(self) -> bytes:
        text = self.help.replace("\0", "").replace("\\", r"\\").replace("\n", r"\n")
        return f"# HELP {self.name} {text}\n# TYPE {self.name} {self.type}\n".encode()


class Exposition:
    """The blocks of all sources. Any thread may scrape, each source's own thread publishes."""

    def __init__(self, families: Iterable[Family], sources: Sequence[str]) -> None:
        """Families are served in the given order, the first of a name giving its header; so are sources within one."""
        self._headers: dict[str, Block] = {}
        for family in families:
            if family.name not in self._headers:
                self._headers[family.name] = Block.of(family.header())
        self._blocks: dict[str, Mapping[str, Block]] = {name: {} for name in sources}
        self._lock = threading.Lock()
        self.page = Page()

    def publish(self, source: str, blocks: Mapping[str, Block]) -> None:
        """Replace everything of a source by blocks by family name; families without samples are left out."""
        with self._lock:
            self._blocks[source] = {name: block for name, block in blocks.items() if block.text}
            self.page = self._joined()

    def drop(self, source: str) -> None:
        """Serve nothing of a source any more."""
        self.publish(source, {})

    def blocks(self, source: str) -> Mapping[str, Block]:
        """What is served of a source, by family name."""
        return self._blocks.get(source, {})

    def _joined(self) -> Page:
        joined: list[Block] = []
        for family, header in self._headers.items():
            found = [block for blocks in self._blocks.values() if (block := blocks.get(family))]
            if found:
                joined += [header, *found]
        return Page().then(*joined)
