"""Ending a connection under whoever waits for it, and nobody else's."""

from __future__ import annotations

import socket
import threading

from urllib3.util.ssltransport import SSLTransport

from exporter.collectors.sockets import another, shut_down


def test_whoever_waits_sees_the_end() -> None:
    here, there = socket.socketpair()
    got: list[bytes] = []
    with here, there:
        waiting = threading.Thread(target=lambda: got.append(here.recv(1)))
        waiting.start()
        shut_down(here)
        waiting.join(60)
    assert got == [b""]


def test_tls_inside_tls_is_ended_at_its_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        wrapped = SSLTransport.__new__(SSLTransport)  # without its handshake
        wrapped.socket = here
        shut_down(wrapped)
        assert here.recv(1) == b""


def test_a_library_s_connection_is_ended_by_its_descriptor_of_then() -> None:
    here, there = socket.socketpair()
    with another(here.fileno()) as kept, here, there:
        shut_down(kept)
        assert here.recv(1) == b""


def test_a_connection_that_was_closed_is_none_of_the_next_one_s_business() -> None:
    """Its descriptor's number is given to whatever is opened next: here a server, which has to go on listening."""
    here, there = socket.socketpair()
    number = here.fileno()
    here.close()
    with there, socket.create_server(("127.0.0.1", 0)) as server:
        assert server.fileno() == number
        shut_down(here)
        socket.create_connection(server.getsockname(), timeout=60).close()
