"""Users and TLS in front of the Kafka cluster of the tests, which has neither.

A gate is a proxy that speaks as much of the protocol as it must: it checks SASL/PLAIN as a broker does, and names
itself as the broker in every answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HANDSHAKE, VERSIONS, AUTHENTICATE = 17, 18, 36
REFUSED = 58


@dataclass
class Gate:
    """`users` maps names to passwords, None for no check."""

    cluster_port: int
    users: dict[str, str] | None = None
    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, plain: socket.socket) -> None:
        """One connection, in a thread of its own."""
        with contextlib.suppress(OSError), contextlib.closing(plain):
            client = self.tls.wrap_socket(plain, server_side=True) if self.tls else plain
            server = socket.create_connection(("127.0.0.1", self.cluster_port))
            self.connections += [client, server]
            asked: set[bytes] = set()
            answers = threading.Thread(target=self._answers, args=(server, client, asked), daemon=True)
            answers.start()
            with contextlib.closing(client), contextlib.closing(server):
                self._requests(client, server, asked)

    def _requests(self, client: socket.socket, server: socket.socket, asked: set[bytes]) -> None:
        trusted = self.users is None
        while (frame := _frame(client)) is not None:
            (key,) = struct.unpack(">h", frame[:2])
            correlation = frame[4:8]
            if key == HANDSHAKE:
                _send(client, correlation + struct.pack(">hi", 0, 1) + _text("PLAIN"))
            elif key == AUTHENTICATE:
                trusted = self._knows(frame)
                code, why = (0, b"\xff\xff") if trusted else (REFUSED, _text("Authentication failed: wrong password"))
                _send(client, correlation + struct.pack(">h", code) + why + struct.pack(">i", 0))
            elif key == VERSIONS or trusted:
                asked.update([correlation] if key == VERSIONS else [])
                _send(server, frame)
            else:
                return

    def _knows(self, frame: bytes) -> bool:
        _, name, password = frame.rsplit(b"\0", 2) if frame.count(b"\0") > 1 else (b"", b"", b"")
        return (self.users or {}).get(name.decode()) == password.decode()

    def _answers(self, server: socket.socket, client: socket.socket, asked: set[bytes]) -> None:
        theirs = b"127.0.0.1" + struct.pack(">i", self.cluster_port)
        with contextlib.suppress(OSError):
            while (frame := _frame(server)) is not None:
                if frame[:4] in asked and self.users is not None:
                    asked.discard(frame[:4])
                    frame = _with_sasl(frame)
                _send(client, frame.replace(theirs, b"127.0.0.1" + struct.pack(">i", self.port)))


@contextmanager
def gate(
    cluster_port: int, *, users: dict[str, str] | None = None, tls: Callable[[ssl.SSLContext], None] | None = None
) -> Iterator[Gate]:
    """A gate to the cluster; `tls` configures the context of its side."""
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened = Gate(cluster_port, users, context, listener.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=opened.serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield opened
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for connection in opened.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _with_sasl(frame: bytes) -> bytes:
    """An answer about request versions that has those of SASL too."""
    error, count = struct.unpack(">hi", frame[4:10])
    end = 10 + 6 * count
    ours = struct.pack(">hhhhhh", HANDSHAKE, 0, 1, AUTHENTICATE, 0, 0)
    return frame[:4] + struct.pack(">hi", error, count + 2) + frame[10:end] + ours + frame[end:]


def _frame(connection: socket.socket) -> bytes | None:
    """The next message without its length; None at the end."""
    head = _exactly(connection, 4)
    return _exactly(connection, struct.unpack(">i", head)[0]) if head else None


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    content = b""
    while len(content) < size:
        chunk = connection.recv(size - len(content))
        if not chunk:
            return None
        content += chunk
    return content


def _send(connection: socket.socket, frame: bytes) -> None:
    connection.sendall(struct.pack(">i", len(frame)) + frame)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
