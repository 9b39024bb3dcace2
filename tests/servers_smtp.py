"""An SMTP server that goes as far as it is told and then hangs, a byte at a time: no time-out of a read ends that."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DRIP = 0.05  # seconds from byte to byte
STEPS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data", "QUIT")


@contextmanager
def hanging_smtp(at: str) -> Iterator[int]:
    """Yield the port of a server that hangs at one of STEPS."""
    stopped = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self._talk()

        def _talk(self) -> None:
            self._say("greeting", b"220 here")
            while line := self.rfile.readline():
                word = line.split()[0].decode().upper()
                self._say(word, b"354 go on" if word == "DATA" else b"250 fine")
                if word == "DATA":
                    while self.rfile.readline() not in (b".\r\n", b""):
                        pass
                    self._say("end of data", b"250 taken")

        def _say(self, step: str, words: bytes) -> None:
            if step != at:
                self.wfile.write(words + b"\r\n")
                return
            while not stopped.wait(DRIP):
                self.wfile.write(b"2")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
