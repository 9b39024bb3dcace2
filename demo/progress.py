"""One line that says how far a long step is: rewritten on a terminal, printed now and then into a log."""

from __future__ import annotations

import sys
from typing import TextIO


class ProgressLine:
    """`update` with a share 0..1; `done` ends the line. Into a file at most one line per tenth is written."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._tenth = -1

    def update(self, share: float, note: str = "") -> None:
        text = f"{self._label}: {share:4.0%} {note}".rstrip()
        if self._live:
            self._stream.write(f"\r\x1b[K{text}")
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            self._stream.write(text + "\n")
        self._stream.flush()

    def done(self, note: str) -> None:
        self._stream.write(f"{chr(13) + chr(27) + '[K' if self._live else ''}{self._label}: {note}\n")
        self._stream.flush()
