"""A scraper that costs little itself: it reads an answer into one buffer and looks at nothing but its length."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

_BUFFER = bytearray(1 << 20)
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:\s*chunked", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer: seconds from connecting to its last byte, its size in bytes, and its start."""

    seconds: float
    size: int
    head: bytes


def scrape(port: int, path: str, *, gzip: bool, timeout: float = 120.0) -> Scrape:
    """GET over a new connection. OSError when nobody answers, ValueError when the answer is no 200."""
    coding = "gzip" if gzip else "identity"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(request.encode())
        head, rest = _head(connection)
        size = len(rest)
        while count := connection.recv_into(_BUFFER):
            size += count
    seconds = time.perf_counter() - began
    status = head.split(b" ", 2)[1]
    if status != b"200":
        raise ValueError(f"answered {status.decode()}")
    length = _LENGTH.search(head)
    if length and int(length[1]) != size:
        raise ValueError(f"{size} bytes of {int(length[1])}")
    if gzip and b"gzip" not in head.lower():
        raise ValueError("answered without gzip")
    return Scrape(seconds, size, head)


def body(port: int, path: str) -> bytes:
    """The whole plain text of an answer, to be counted; not timed."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(request.encode())
        head, rest = _head(connection)
        parts = [rest]
        while data := connection.recv(1 << 20):
            parts.append(data)
    whole = b"".join(parts)
    return _joined(whole) if _CHUNKED.search(head) else whole


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        if not data:
            raise ValueError("the answer ended in its headers")
        received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _joined(chunked: bytes) -> bytes:
    parts, at = [], 0
    while at < len(chunked):
        end = chunked.index(b"\r\n", at)
        size = int(chunked[at:end], 16)
        parts.append(chunked[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)
