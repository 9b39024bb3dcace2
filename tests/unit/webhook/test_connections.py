"""Threads that wait for a connection's next request, and workers that leave others their share."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.workers.gthread import ThreadWorker

from webhook import connections
from webhook.connections import PatientWorker


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def worker(**more: Any) -> PatientWorker:
    """One without a gunicorn around it."""
    made = PatientWorker.__new__(PatientWorker)
    waiting: queue.SimpleQueue[object] = queue.SimpleQueue()
    for name, value in {"alive": True, "tpool": SimpleNamespace(_work_queue=waiting), "nr_conns": 0, **more}.items():
        setattr(made, name, value)
    return made


def connection(sock: socket.socket) -> SimpleNamespace:
    return SimpleNamespace(sock=sock, is_http2=False)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What gunicorn has read, a byte for each request; `x` ends the connection."""
    found: list[bytes] = []

    def handle(_worker: object, conn: Any) -> bool:
        found.append(conn.sock.recv(1))
        return found[-1] != b"x"

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    return found


def test_requests_that_follow_at_once_are_answered_by_one_thread(
    ends: tuple[socket.socket, socket.socket], read: list[bytes]
) -> None:
    ends[1].sendall(b"abx")
    assert worker().handle(connection(ends[0])) is False
    assert read == [b"a", b"b", b"x"]


def test_a_connection_without_a_request_goes_back(ends: tuple[socket.socket, socket.socket], read: list[bytes]) -> None:
    ends[1].sendall(b"a")
    assert worker().handle(connection(ends[0])) is True
    assert read == [b"a"]


@pytest.mark.parametrize("why", ["another waits for a thread", "the worker stops"])
def test_no_thread_waits_when_it_is_wanted(
    why: str, ends: tuple[socket.socket, socket.socket], read: list[bytes]
) -> None:
    ends[1].sendall(b"ab")
    busy = worker(alive=why != "the worker stops")
    if why == "another waits for a thread":
        busy.tpool._work_queue.put(object())
    assert busy.handle(connection(ends[0])) is True
    assert read == [b"a"]


def test_a_worker_with_connections_leaves_others_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connections.time, "sleep", slept.append)
    monkeypatch.setattr(ThreadWorker, "accept", lambda *_: None)
    with socket.socket() as listener:
        for count in (0, 1, 10, 1000):
            worker(nr_conns=count).accept(listener)
    assert slept == pytest.approx([0.0001, 0.001, 0.002])
