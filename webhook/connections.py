"""gunicorn's threads, made patient and fair.

Who has answered a request waits a moment for the next one of the connection. gunicorn gives a kept connection back to
its main thread after each request, and that to a thread again when it can be read: under load these two hand-overs
cost as much as a third of what the answer does. Alertmanager, and whatever stands before the API, send one request
after another on the connections that they keep.

A new connection wakes all workers, and the first to come would take a whole burst of them. So whoever has many leaves
the others a moment to take it.
"""

from __future__ import annotations

import select
import socket
import time

from gunicorn.workers.gthread import TConn, ThreadWorker

PATIENCE_MS = 5
TIMES = 10
"""So long, and so often, a thread waits, and only while no other connection waits for one."""

POLITENESS_S = 0.0001
"""For each connection that a worker has, before it takes another."""

LONGEST_POLITENESS_S = 0.002


class PatientWorker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    def accept(self, listener: socket.socket) -> None:
        if self.nr_conns:
            time.sleep(min(self.nr_conns * POLITENESS_S, LONGEST_POLITENESS_S))
        super().accept(listener)

    def handle(self, conn: TConn) -> object:
        """Answer the request that is there, and those that follow at once; runs in a thread of the pool."""
        kept = super().handle(conn)
        while kept is True and self._follows(conn):
            kept = super().handle(conn)
        return kept

    def _follows(self, conn: TConn) -> bool:
        """Whether the connection's next request is here. What the parser holds already is gunicorn's own to find."""
        if conn.is_http2:
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        for _ in range(TIMES):
            if not self.alive or self.tpool._work_queue.qsize():  # noqa: SLF001 - the pool tells nobody what waits
                return False
            if poll.poll(PATIENCE_MS):
                return True
        return False
