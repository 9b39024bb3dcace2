"""What was served of a source, as a file, so that a restart has no gap.

A file holds a line that names the format, a line of JSON, the blocks as they are sent to clients that take gzip, and a
digest of all that. Nothing is compressed for it: the blocks are. It is put in place by renaming, without waiting for
the disk: after a power cut a file may be damaged, which its digest tells, and the source is collected as usual.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from isal import isal_zlib

from exporter.exposition import Block
from exporter.mapping.spec import DataWarning

MAGIC = b"sentinel-exporter snapshot 1\n"
_DIGEST = 16


class NoSnapshot(ValueError):  # noqa: N818 - named for what happened, as in exporter.errors
    """The file is not one of ours, or damaged; the message says which."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything served of a source: when its collection began (Unix seconds), how much it is, and the blocks.

    `config` is the fingerprint of the source's configuration, `version` what its collector called the data.
    `program` is the version of the exporter that rendered it.
    """

    source: str
    config: str
    program: str
    at: float
    rows: int
    series: int
    version: str | None = None
    warnings: tuple[DataWarning, ...] = ()
    blocks: Mapping[str, Block] = field(default_factory=dict)


def encode(snapshot: Snapshot) -> list[bytes]:
    """A file's content, in parts."""
    header = {
        "source": snapshot.source,
        "config": snapshot.config,
        "program": snapshot.program,
        "at": snapshot.at,
        "rows": snapshot.rows,
        "series": snapshot.series,
        "version": snapshot.version,
        "warnings": [asdict(warning) for warning in snapshot.warnings],
        "blocks": [[name, len(block.deflated), len(block.text), block.crc] for name, block in snapshot.blocks.items()],
    }
    parts = [MAGIC, json.dumps(header).encode() + b"\n", *(block.deflated for block in snapshot.blocks.values())]
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        digest.update(part)
    return [*parts, digest.digest()]


def decode(content: bytes) -> Snapshot:
    """From a file's content; NoSnapshot for anything that `encode` has not written."""
    if not content.startswith(MAGIC):
        raise NoSnapshot("is not a snapshot of this version")
    if hashlib.blake2b(memoryview(content)[:-_DIGEST], digest_size=_DIGEST).digest() != content[-_DIGEST:]:
        raise NoSnapshot("is damaged")
    end = content.index(b"\n", len(MAGIC)) + 1
    header: dict[str, Any] = json.loads(content[len(MAGIC) : end])
    blocks: dict[str, Block] = {}
    for name, deflated_size, size, crc in header.pop("blocks"):
        deflated = content[end : end + deflated_size]
        end += deflated_size
        text = isal_zlib.decompressobj(wbits=-15).decompress(deflated)
        if len(text) != size or isal_zlib.crc32(text) != crc:
            raise NoSnapshot("is damaged")
        blocks[name] = Block(text, deflated, crc)
    warnings = tuple(DataWarning(**warning) for warning in header.pop("warnings"))
    return Snapshot(**header, warnings=warnings, blocks=blocks)
