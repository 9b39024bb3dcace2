"""The console channel: messages on standard output, to be read among the logs of a supervisor."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict

from webhook.domain.alert import NotifyReason
from webhook.domain.message import SEVERITY_WORDS, Message
from webhook.domain.severity import Severity
from webhook.ports import Receipt

WIDTH = 96
_COLOURS = {Severity.P0: "1;97;41", Severity.P1: "1;31", Severity.P2: "1;33", Severity.P3: "1;36"}
_ENDED_COLOUR = "1;32"


class ConsoleOptions(BaseModel):
    """Nothing to choose."""

    model_config = ConfigDict(extra="forbid")


class Console:
    """Writes each message in one piece. Colour only on a terminal, and never the only carrier of the severity."""

    channel_type = "console"
    parallel = 1

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],  # noqa: ARG002 - the port's signature
        before: Receipt | None = None,  # noqa: ARG002 - as above
    ) -> Receipt:
        stream = self._stream or sys.stdout
        colour = stream.isatty() and "NO_COLOR" not in os.environ
        text = "\n".join(render(message, colour=colour))
        with self._lock:
            stream.write(f"{text}\n")
            stream.flush()
        return Receipt()

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing to add: the text named the chart's address already."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as above
        return {"text": "\n".join(render(message, colour=False))}

    def check(self) -> str:
        return "standard output of the worker"


def render(message: Message, *, colour: bool) -> Iterator[str]:
    """The lines of a message, framed, at most `WIDTH` columns but for addresses."""
    ended = message.reason is NotifyReason.RESOLVED
    state = "ENDED" if ended else SEVERITY_WORDS[message.severity].upper()
    head = f"{message.severity} {state}"
    style = _ENDED_COLOUR if ended else _COLOURS[message.severity]
    yield f"┌─ {_styled(head, style, colour=colour)} {'─' * (WIDTH - len(head) - 4)}"
    yield from _wrapped(message.title, style="1", colour=colour)
    yield "│"
    label_width = max(len(label) for label, _ in (("Merchant", ""), *message.facts))
    for label, value in (("Merchant", message.merchant), *message.facts):
        yield f"│ {label.ljust(label_width)}  {value}"
    yield "│"
    yield from _wrapped(message.text)
    yield from _wrapped(f"What to do: {message.suggested_action}")
    yield "│"
    yield f"│ Details  {message.url}"
    yield f"│ Chart    {message.chart_url}"
    yield f"└{'─' * (WIDTH - 1)}"


def _wrapped(text: str, *, style: str = "", colour: bool = False) -> Iterator[str]:
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, WIDTH - 2) or [""]:
            yield f"│ {_styled(line, style, colour=colour)}".rstrip()


def _styled(text: str, style: str, *, colour: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colour and style else text
