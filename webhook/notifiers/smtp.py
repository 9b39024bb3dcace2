"""SMTP's steps under one deadline: each may wait as long as its time-out, but the line that drips ends with it."""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import suppress

from webhook.notifiers.deadline import current, deadline, resolved, seconds_left
from webhook.notifiers.outgoing import resolve

_ADDRESSES = 2  # of a host, that are tried
_GOODBYE_S = 2.0


class Smtp(smtplib.SMTP):
    """`handed_over`: the mail was said and not answered."""

    handed_over = False

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        last: OSError | None = None
        for address in resolved(resolve, host, port)[:_ADDRESSES]:
            try:
                connected = socket.create_connection((address, port), seconds_left(timeout))
            except OSError as error:
                last = error
                continue
            if (until := current()) is not None:
                until.note(connected)
            return connected
        raise last or OSError("no address")

    def data(self, msg: bytes | str) -> tuple[int, bytes]:  # type: ignore[override]  # as smtplib calls it
        self.handed_over = True
        answer = super().data(msg)
        until = current()
        self.handed_over = until is not None and until.passed  # an answer that was cut off is none
        return answer

    def leave(self) -> None:
        """Politely, which is no part of sending and must not hold us."""
        with deadline(_GOODBYE_S) as short, suppress(smtplib.SMTPException, OSError):
            if self.sock is not None:
                short.note(self.sock)
            self.quit()


class SmtpOverTls(smtplib.SMTP_SSL, Smtp):
    """Its socket is known before TLS, since a server may hang there too."""


def connect(host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None) -> Smtp:
    """`tls`: from the first byte on. Raise OSError or SMTPException."""
    if tls is not None:
        return SmtpOverTls(host, port, timeout=timeout, context=tls)
    return Smtp(host, port, timeout=timeout)
