"""A file's bytes: read no further than allowed, and decompressed no further either."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import partial

from isal import igzip, isal_zlib

from exporter.collectors.base import Collection
from exporter.environment import Secrets
from exporter.errors import BadAnswer, BudgetExceeded

CHUNK = 1024 * 1024  # bytes
_EXCERPT = 80
_LOOKED_AT = 4096
_GZIP = b"\x1f\x8b"
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
# Polars would decompress some of these by itself, without any limit.
_OTHERS = {
    _GZIP: "compressed by gzip twice",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\x78\x01": "compressed by zlib",
    b"\x78\x9c": "compressed by zlib",
    b"\x78\xda": "compressed by zlib",
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ": "compressed by xz",
}


def gathered(chunks: Iterable[bytes], most: int, place: str, collection: Collection) -> bytes:
    """All chunks as one; BudgetExceeded as soon as they are more than `most` bytes, TimedOut when the time is over."""
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        within_max_bytes(size, most, place)
        collection.remaining()
        parts.append(chunk)
    return b"".join(parts)


def within_max_bytes(size: int, most: int, place: str) -> None:
    if size > most:
        raise BudgetExceeded(f"{place} is larger than max_bytes ({most}): raise it, or write a smaller file")


def decompressed(body: bytes, most: int, place: str, collection: Collection) -> bytes:
    """`body` as it is, or decompressed where it is gzip or its name says so; BadAnswer where it is damaged."""
    if not body.startswith(_GZIP):
        if place.lower().endswith(".gz"):
            raise BadAnswer(f"{place} is named .gz, but is not gzip. {excerpt(body, collection.secrets)}")
        return body
    try:
        with igzip.IGzipFile(fileobj=io.BytesIO(body)) as stream:  # type: ignore[no-untyped-call]  # has no types
            content = gathered(iter(partial(stream.read, CHUNK), b""), most, f"{place}, decompressed,", collection)
    except EOFError:
        raise BadAnswer(f"{place} is gzip that ends too early: was it cut off, or is it still being written?") from None
    except (igzip.BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc]  # declared as an instance
        raise BadAnswer(f"{place} is damaged gzip: {error}") from None
    return content


def text_of(body: bytes, place: str) -> bytes:
    """UTF-8 text without a byte order mark; BadAnswer for what is surely something else."""
    if body.startswith(_UTF16_MARKS):
        raise BadAnswer(f"{place} is UTF-16 text: save it as UTF-8")
    for start, what in _OTHERS.items():
        if body.startswith(start):
            raise BadAnswer(f"{place} is {what}: write it plain, or compressed by gzip once")
    return body.removeprefix(_UTF8_MARK)


def excerpt(body: bytes, secrets: Secrets) -> str:
    """How a file starts. Secrets go before it is cut, for half a secret would not be recognised."""
    text = " ".join(secrets.redact(body[:_LOOKED_AT].decode("utf-8", "replace")).split())
    return f"It starts with {text[:_EXCERPT]!r}." if text else "It is empty."


def not_utf8(body: bytes) -> str | None:
    """Where text is no UTF-8, in words; None if it is."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return f"line {line} is no UTF-8 text (byte 0x{body[error.start]:02x}), save it as UTF-8"
    return None
