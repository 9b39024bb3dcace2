"""Server-sent events: pages learn that something changed and fetch themselves anew.

One thread per process polls the store while anybody listens, whoever wrote the change: any `serve` or `worker`.
An event names the alerts that changed, or says that they were many; it carries no data of theirs. A merchant hears of
its own accounts alone: whenever anything changes, its stream looks for itself.
"""

from __future__ import annotations

import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from flask import Blueprint, Response, request
from sqlalchemy.exc import SQLAlchemyError

from webhook.domain.access import Principal
from webhook.storage.changes import changed_alerts, last_trigger_at, open_notifications
from webhook.storage.database import Database
from webhook.web.access import principal

POLL_INTERVAL = timedelta(seconds=0.8)
HEARTBEAT = timedelta(seconds=15)
PEER_CHECK = timedelta(seconds=1)
STREAM_LIFETIME = timedelta(minutes=10)
RECONNECT = timedelta(seconds=2)
FULL_RETRY = timedelta(seconds=30)
DEFAULT_SUBSCRIBERS = 8
QUEUED_EVENTS = 8
OVERLAP = timedelta(seconds=15)
"""A transaction commits after the time it wrote: looking back this far finds those that overtook each other."""
WATCHED = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """`alerts` are ids; empty with `many` set when there are too many to name, or when only triggers came."""

    cursor: datetime
    alerts: frozenset[str] = frozenset()
    triggers: bool = False
    many: bool = False

    def as_event(self) -> str:
        data = {"alerts": sorted(self.alerts), "triggers": self.triggers, "many": self.many}
        return f"id: {self.cursor:%Y-%m-%dT%H:%M:%S.%fZ}\nevent: change\ndata: {json.dumps(data)}\n\n"


class ChangeFeed:
    """Compares the store with what it saw the last time, of `accounts` or all; not shared between threads."""

    def __init__(self, database: Database, since: datetime, accounts: frozenset[str] | None = None) -> None:
        self._database = database
        self._accounts = accounts
        self.cursor = since
        self._seen: dict[str, datetime] = {}
        self._notifications: dict[str, tuple[str, str]] = {}
        self._last_trigger: datetime | None = None
        self._look()  # what is there already is no change

    def poll(self) -> Change | None:
        """What changed since the last call; None for nothing. Raises SQLAlchemyError."""
        alerts, triggers, many = self._look()
        if not (alerts or triggers or many):
            return None
        return Change(self.cursor, frozenset() if many else frozenset(alerts), triggers, many)

    def _look(self) -> tuple[set[str], bool, bool]:
        with self._database.read() as connection:
            rows = changed_alerts(connection, self.cursor - OVERLAP, WATCHED, accounts=self._accounts)
            notifications = open_notifications(connection, WATCHED, accounts=self._accounts)
            last_trigger = last_trigger_at(connection, accounts=self._accounts)
        updated = dict(rows)
        alerts = {alert_id for alert_id, at in updated.items() if self._seen.get(alert_id) != at}
        moved = notifications.items() ^ self._notifications.items()
        alerts |= {alert_id for _, (alert_id, _) in moved}
        triggers = last_trigger != self._last_trigger
        self._seen, self._notifications, self._last_trigger = updated, notifications, last_trigger
        self.cursor = max([self.cursor, *updated.values()])
        return alerts, triggers, len(rows) >= WATCHED and bool(alerts)


def never() -> bool:
    return False


class Broadcaster:
    """Hands each change to every subscriber. The polling thread lives as long as there are subscribers."""

    def __init__(self, database: Database, clock: Callable[[], datetime], limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit
        self._lock = threading.Lock()
        self._subscribers: dict[queue.Queue[Change | None], Callable[[], bool]] = {}
        self._stop: threading.Event | None = None
        self._closed = False

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    def subscribe(self, left: Callable[[], bool] = never) -> queue.Queue[Change | None] | None:
        """A queue of changes that ends with None; None when there are subscribers enough, or after `close`.

        `left` says whether the subscriber has gone: such give way when there are many.
        """
        with self._lock:
            if len(self._subscribers) >= self._limit:
                self._forget_those_who_left()
            if self._closed or len(self._subscribers) >= self._limit:
                return None
            if self._stop is None:
                # Looked at here and not in the thread: nothing written from now on is missed.
                feed = ChangeFeed(self._database, self._clock())
                self._stop = threading.Event()
                threading.Thread(target=self._run, args=(feed, self._stop), name="live", daemon=True).start()
            changes: queue.Queue[Change | None] = queue.Queue(QUEUED_EVENTS)
            self._subscribers[changes] = left
            return changes

    def _forget_those_who_left(self) -> None:
        for changes in [changes for changes, left in self._subscribers.items() if left()]:
            del self._subscribers[changes]
            _put(changes, None)

    def unsubscribe(self, changes: queue.Queue[Change | None]) -> None:
        with self._lock:
            self._subscribers.pop(changes, None)
            if not self._subscribers and self._stop is not None:
                self._stop.set()
                self._stop = None

    def close(self) -> None:
        """End every stream, for a graceful shutdown; their pages connect again elsewhere."""
        with self._lock:
            self._closed = True
            for changes in self._subscribers:
                _put(changes, None)

    def publish(self, change: Change) -> None:
        with self._lock:
            for changes in self._subscribers:
                _put(changes, change)

    def _run(self, feed: ChangeFeed, stop: threading.Event) -> None:
        while not stop.wait(POLL_INTERVAL.total_seconds()):
            try:
                change = feed.poll()
            except SQLAlchemyError as error:
                log.warning("live_poll_failed", error=type(error).__name__)
                continue
            if change is not None:
                self.publish(change)


def _put(changes: queue.Queue[Change | None], change: Change | None) -> None:
    """A reader too slow for its queue is told once that much has changed."""
    try:
        changes.put_nowait(change)
    except queue.Full:
        while not changes.empty():
            changes.get_nowait()
        changes.put_nowait(change and Change(change.cursor, triggers=True, many=True))


def _missed(
    database: Database, since_text: str | None, now: datetime, accounts: frozenset[str] | None
) -> Change | None:
    """What a page has missed since it was rendered or last heard of us; everything, if its word is no time."""
    if not since_text:
        return None
    try:
        since = datetime.fromisoformat(since_text).astimezone(UTC)
        look_from = since - OVERLAP
    except (ValueError, OverflowError):
        return Change(now, triggers=True, many=True)
    with database.read() as connection:
        rows = changed_alerts(connection, look_from, WATCHED, accounts=accounts)
        last_trigger = last_trigger_at(connection, accounts=accounts)
    triggers = last_trigger is not None and last_trigger >= look_from
    if not rows and not triggers:
        return None
    newest = max([since, *(at for _, at in rows)])
    many = len(rows) >= WATCHED
    return Change(newest, frozenset() if many else frozenset(alert_id for alert_id, _ in rows), triggers, many)


def peer_left(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Whether the client has closed its connection, which a stream would else notice at its second heartbeat.

    A browser opens a new stream with every page; the servers used here hand out the connection.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return never

    def left() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    return left


def _own(change: Change, feed: ChangeFeed | None) -> Change | None:
    """What of it concerns a merchant, by its own `feed`; all of it for who sees all accounts."""
    if feed is None:
        return change
    try:
        return feed.poll()
    except SQLAlchemyError as error:
        log.warning("live_poll_failed", error=type(error).__name__)
        return None


@dataclass(frozen=True, slots=True)
class _Listener:
    """`left`: has gone; `admitted`: is still let in; `feed`: of a merchant."""

    left: Callable[[], bool]
    admitted: Callable[[], bool]
    feed: ChangeFeed | None


def _stays(listener: _Listener) -> bool:
    """A store that is away shuts nobody out."""
    try:
        return listener.admitted()
    except SQLAlchemyError:
        return True


def _stream(
    broadcaster: Broadcaster, changes: queue.Queue[Change | None], missed: Change | None, listener: _Listener
) -> Iterator[str]:
    """Events and heartbeats, for about STREAM_LIFETIME; the client comes back by itself."""
    beat = time.monotonic()
    end = beat + STREAM_LIFETIME.total_seconds()
    try:
        yield f"retry: {int(RECONNECT.total_seconds() * 1000)}\n: connected\n\n"
        if missed is not None:
            yield missed.as_event()
        while time.monotonic() < end and not listener.left():
            try:
                change = changes.get(timeout=min(PEER_CHECK, HEARTBEAT).total_seconds())
            except queue.Empty:
                if time.monotonic() - beat >= HEARTBEAT.total_seconds():
                    beat = time.monotonic()
                    if not _stays(listener):
                        return
                    yield ": heartbeat\n\n"
                continue
            if change is None or not _stays(listener):
                return
            own = _own(change, listener.feed)
            if own is not None:
                yield own.as_event()
    finally:
        broadcaster.unsubscribe(changes)


def live_blueprint(
    database: Database, broadcaster: Broadcaster, clock: Callable[[], datetime], still_in: Callable[[Principal], bool]
) -> Blueprint:
    """GET /live/events[?since=…]; a page names the time it was rendered, EventSource the last event it had."""
    pages = Blueprint("live", __name__)

    @pages.get("/live/events")
    def events() -> Response:
        listening, left = principal(), peer_left(request.environ)
        accounts = listening.accounts
        changes = broadcaster.subscribe(left)
        if changes is None:
            retry = str(int(FULL_RETRY.total_seconds()))
            return Response("Too many listeners.\n", 503, {"Retry-After": retry}, "text/plain")
        try:
            since = request.headers.get("Last-Event-ID") or request.args.get("since")
            feed = None if accounts is None else ChangeFeed(database, clock(), accounts)
            missed = _missed(database, since, clock(), accounts)
        except SQLAlchemyError:
            broadcaster.unsubscribe(changes)
            raise
        listener = _Listener(left, lambda: still_in(listening), feed)
        response = Response(_stream(broadcaster, changes, missed, listener), mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        # Once begun, the generator's `finally` unsubscribes; this is for a client that left before that.
        response.call_on_close(lambda: broadcaster.unsubscribe(changes))
        return response

    return pages
