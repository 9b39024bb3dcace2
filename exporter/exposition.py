"""What is served: immutable blocks of exposition text, joined at a scrape.

A block is one metric family's lines from one source, rendered and compressed when the source was collected. Compressed
blocks are pieces of a raw deflate stream that end on a byte boundary and refer to nothing before them (a full flush),
so any of them can stand one after another. A scrape puts a gzip header before them and an empty last piece, their
joint CRC and length behind them, and compresses nothing. It is one gzip member: of several, which RFC 1952 allows too,
curl and browsers show only the first.

A source's blocks are replaced all at once; a scrape sees either the old ones or the new ones.

Sample lines are the same in both formats, text 0.0.4 and OpenMetrics 1.0; a family's header and the end are not.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from isal import isal_zlib

from exporter.mapping.families import openmetrics_name, taken_names, text_type
from exporter.mapping.spec import DataWarning

if TYPE_CHECKING:
    import polars as pl

Form = Literal["text", "openmetrics"]
CONTENT_TYPES: dict[Form, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_FASTEST, _RAW = 1, -15
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # deflate, no name, no time, fastest, unknown system
_LAST_PIECE = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class Block:
    """Exposition text, the same as a piece of a deflate stream, and its CRC-32.

    `hashes` are of the series of each line, for a family that other sources feed too; None for the others.
    """

    text: bytes
    deflated: bytes
    crc: int
    hashes: pl.Series | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, text: bytes, *, hashed: bool = False) -> Block:
        return cls.joined((text,), hashed=hashed)

    @classmethod
    def joined(cls, pieces: Iterable[bytes], *, hashed: bool = False) -> Block:
        """Of a text in pieces, which end with a line; each is compressed while it is at hand."""
        compressor = isal_zlib.compressobj(_FASTEST, wbits=_RAW)
        whole, deflated, crc = BytesIO(), BytesIO(), 0
        for piece in pieces:
            whole.write(piece)
            deflated.write(compressor.compress(piece))
            crc = isal_zlib.crc32(piece, crc)
        deflated.write(compressor.flush(isal_zlib.Z_FULL_FLUSH))
        text = whole.getvalue()
        return cls(text, deflated.getvalue(), crc, _series_hashes(text) if hashed and text else None)

    @classmethod
    def plain(cls, text: bytes) -> Block:
        """For a page that is sent as text: nothing is compressed."""
        return cls(text, b"", isal_zlib.crc32(text))


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


_FAMILY_START = re.compile(rb"^(?=# HELP )", re.MULTILINE)
_NAMES = re.compile(rb"^(?:# HELP )?(\w+)", re.MULTILINE)
EOF = Block.of(b"# EOF\n")  # what an OpenMetrics page must end in, and no other may have


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family as its header tells it. `name` is the text format's, which is that of a counter's samples."""

    name: str
    type: str
    help: str

    def header(self, form: Form) -> bytes:
        """HELP, unless there is none, and TYPE. OpenMetrics knows more types, and cuts their endings off the name."""
        name, kind = self.name, text_type(self.type)
        text = self.help.replace("\0", "").strip().replace("\\", r"\\").replace("\n", r"\n")
        if form == "openmetrics":
            name, kind = openmetrics_name(self.name, self.type), self.type
            text = text.replace('"', r"\"")
        told = f"# HELP {name} {text}\n" if text else ""
        return f"{told}# TYPE {name} {kind}\n".encode()


class _Served:
    """One family: its headers, and the blocks of the sources that have samples of it, by the sources' position."""

    def __init__(self, family: Family) -> None:
        self.headers = {form: Block.of(family.header(form)) for form in CONTENT_TYPES}
        self.names = taken_names(family.name, family.type)
        self.blocks: dict[int, Block] = {}

    def joined(self, form: Form, positions: frozenset[int] | None) -> Iterator[Block]:
        """The header and the blocks of all, or the given, sources; nothing when there are none."""
        found = sorted(self.blocks if positions is None else self.blocks.keys() & positions)
        if found:
            yield self.headers[form]
        for position in found:
            yield self.blocks[position]


class Exposition:
    """The blocks of all sources. Any thread may scrape, each source's own thread publishes.

    Publishing costs what the source itself has; blocks are joined at the first scrape that follows.
    """

    def __init__(self, families: Iterable[Family], sources: Sequence[str]) -> None:
        """Families are served in the given order, the first of a name giving its header; so are sources within one.

        A family is given once for each source that feeds it; of one given more often, no two sources may have the
        same series.
        """
        self._families: dict[str, _Served] = {}
        shared: set[str] = set()
        for family in families:
            if family.name in self._families:
                shared.add(family.name)
            else:
                self._families[family.name] = _Served(family)
        self.shared = frozenset(shared)
        self._sources = tuple(sources)
        self._positions = {source: position for position, source in enumerate(sources)}
        self._blocks: dict[str, Mapping[str, Block]] = {name: {} for name in sources}
        self._publishing = threading.Lock()
        self._lock = threading.Lock()  # held for moments only, since scrapes wait for it
        self._pages: dict[Form, Page] = {}

    def publish(self, source: str, blocks: Mapping[str, Block]) -> tuple[DataWarning, ...]:
        """Replace everything of a source by blocks by family name.

        Families without samples are left out, and so are those that the exposition was not made with. One that has a
        series that is served of another source is left out too, with a warning that counts its series.
        """
        position = self._positions[source]
        served = {name: block for name, block in blocks.items() if block.text and name in self._families}
        warnings = []
        with self._publishing:
            for name in sorted(self.shared & served.keys()):
                served[name] = block = _hashed(served[name])
                warning = self._clash(name, position, block)
                if warning is not None:
                    warnings.append(warning)
                    del served[name]
            with self._lock:
                for name in self._blocks[source]:
                    del self._families[name].blocks[position]
                for name, block in served.items():
                    self._families[name].blocks[position] = block
                self._blocks[source] = served
                self._pages.clear()
        return tuple(warnings)

    def drop(self, source: str) -> None:
        """Serve nothing of a source any more."""
        self.publish(source, {})

    def blocks(self, source: str) -> Mapping[str, Block]:
        """What is served of a source, by family name. Empty for a source that the exposition does not have."""
        return self._blocks.get(source, {})

    def page(
        self, form: Form = "text", names: Collection[str] | None = None, sources: Collection[str] | None = None
    ) -> Page:
        """All families, or those of the given names, of all sources or the given ones. The page of all is kept.

        A family is named by its own name or by that of a sample, so `x_bucket` is the histogram `x`. The page has no
        `EOF`, since more may follow.
        """
        with self._lock:
            if names is None and sources is None:
                if form not in self._pages:
                    self._pages[form] = self._joined(form, self._families.values(), None)
                return self._pages[form]
            wanted = None if names is None else frozenset(names)
            found = [family for family in self._families.values() if wanted is None or wanted & family.names]
            return self._joined(form, found, self._positions_of(sources))

    def _clash(self, name: str, position: int, block: Block) -> DataWarning | None:
        """A warning if another source has a series of the block: Prometheus would take only one of the two."""
        for at, other in self._families[name].blocks.items():
            if at == position or block.hashes is None or other.hashes is None:
                continue
            from exporter.mapping.series_keys import common_series  # noqa: PLC0415 - as in _series_hashes

            count, example = common_series(block.text, block.hashes, other.text, other.hashes)
            if count:
                what = f"source {self._sources[at]} has {count} of these {len(block.hashes)} series too"
                advice = "give each source a static label of its own"
                detail = f"{name} is left out: {what}, such as {example}: {advice}"
                return DataWarning("duplicates", len(block.hashes), detail, metric=name)
        return None

    def _positions_of(self, sources: Collection[str] | None) -> frozenset[int] | None:
        if sources is None:
            return None
        return frozenset(self._positions[source] for source in sources if source in self._positions)

    @staticmethod
    def _joined(form: Form, served: Iterable[_Served], positions: frozenset[int] | None) -> Page:
        return Page().then(*(block for family in served for block in family.joined(form, positions)))


def _series_hashes(text: bytes) -> pl.Series:
    from exporter.mapping.series_keys import series_hashes  # noqa: PLC0415 - needs Polars, which a warm start does without

    return series_hashes(text)


def _hashed(block: Block) -> Block:
    """Of a block from a snapshot, or from before a reload, the hashes are not known."""
    return block if block.hashes is not None else replace(block, hashes=_series_hashes(block.text))


def families_named(text: bytes, names: Collection[str]) -> bytes:
    """Of exposition text in which each family begins with its HELP, those of the given names, or with such samples."""
    wanted = {name.encode() for name in names}
    families = _FAMILY_START.split(text)
    return b"".join(family for family in families if not wanted.isdisjoint(_NAMES.findall(family)))
