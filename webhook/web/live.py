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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import structlog
from flask import Blueprint, Response, request
from sqlalchemy.exc import SQLAlchemyError

from webhook.domain.access import Principal
from webhook.storage.changes import changed_alerts, last_trigger_at, open_notifications
from webhook.storage.database import Database
from webhook.web.access import principal
from webhook.web.problems import problem
from webhook.web.rates import caller

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


@dataclass(frozen=True, slots=True, eq=False)
class Subscriber:
    """One stream: whose it is, its changes, which end with None, and whether its client has gone."""

    holder: str
    left: Callable[[], bool]
    changes: queue.Queue[Change | None]

    def put(self, change: Change | None) -> None:
        """A reader too slow for its queue is told once that much has changed."""
        try:
            self.changes.put_nowait(change)
        except queue.Full:
            with suppress(queue.Empty):  # who reads may be emptying it as well
                while True:
                    self.changes.get_nowait()
            self.changes.put_nowait(change and Change(change.cursor, triggers=True, many=True))


class Broadcaster:
    """Hands each change to every subscriber. The polling thread lives as long as there are subscribers.

    Of its `limit` streams one holder has half at most; where all are taken, whoever holds most gives one to who has
    none. So nobody shuts anybody out.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit
        self._share = max(1, limit // 2)
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []  # oldest first
        self._stop: threading.Event | None = None
        self._closed = False

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    @property
    def closed(self) -> bool:
        return self._closed

    def subscribe(self, holder: str, left: Callable[[], bool] = never) -> Subscriber | None:
        """None where there is no room, or after `close`. `left`: such give way when there are many."""
        with self._lock:
            if self._closed or not self._make_room(holder):
                return None
            if self._stop is None:
                # Looked at here and not in the thread: nothing written from now on is missed.
                feed = ChangeFeed(self._database, self._clock())
                self._stop = threading.Event()
                threading.Thread(target=self._run, args=(feed, self._stop), name="live", daemon=True).start()
            subscriber = Subscriber(holder, left, queue.Queue(QUEUED_EVENTS))
            self._subscribers.append(subscriber)
            return subscriber

    def _make_room(self, holder: str) -> bool:
        """Whether there is a place for one more stream of `holder`, the oldest of one's own given up for it."""
        if len(self._subscribers) >= self._limit or self._held()[holder] >= self._share:
            for gone in [subscriber for subscriber in self._subscribers if subscriber.left()]:
                self._end(gone)
        held = self._held()
        if held[holder] >= self._share:
            self._end_oldest(holder)
        elif len(self._subscribers) >= self._limit:
            ((most, count),) = held.most_common(1)
            if count <= held[holder] + 1:
                return False
            self._end_oldest(most)
        return True

    def _held(self) -> Counter[str]:
        return Counter(subscriber.holder for subscriber in self._subscribers)

    def _end_oldest(self, holder: str) -> None:
        self._end(next(subscriber for subscriber in self._subscribers if subscriber.holder == holder))

    def _end(self, subscriber: Subscriber) -> None:
        self._subscribers.remove(subscriber)
        subscriber.put(None)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        with self._lock:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
            if not self._subscribers and self._stop is not None:
                self._stop.set()
                self._stop = None

    def close(self) -> None:
        """End every stream, for a graceful shutdown; their pages connect again elsewhere."""
        with self._lock:
            self._closed = True
            for subscriber in self._subscribers:
                subscriber.put(None)

    def publish(self, change: Change) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.put(change)

    def _run(self, feed: ChangeFeed, stop: threading.Event) -> None:
        while not stop.wait(POLL_INTERVAL.total_seconds()):
            try:
                change = feed.poll()
                if change is not None:
                    self.publish(change)
            except SQLAlchemyError as error:
                log.warning("live_poll_failed", error=type(error).__name__)
            except Exception:  # the thread is everybody's: what is wrong with one look must not end it
                log.exception("live_poll_failed")


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
    """`admitted`: is still let in; `feed`: of a merchant."""

    admitted: Callable[[], bool]
    feed: ChangeFeed | None


def _stays(listener: _Listener) -> bool:
    """A store that is away shuts nobody out."""
    try:
        return listener.admitted()
    except SQLAlchemyError:
        return True


def _stream(
    broadcaster: Broadcaster, subscriber: Subscriber, missed: Change | None, listener: _Listener
) -> Iterator[str]:
    """Events and heartbeats, for about STREAM_LIFETIME; the client comes back by itself."""
    beat = time.monotonic()
    end = beat + STREAM_LIFETIME.total_seconds()
    try:
        yield f"{_retry(RECONNECT)}: connected\n\n"
        if missed is not None:
            yield missed.as_event()
        while time.monotonic() < end and not subscriber.left():
            try:
                change = subscriber.changes.get(timeout=min(PEER_CHECK, HEARTBEAT).total_seconds())
            except queue.Empty:
                if time.monotonic() - beat >= HEARTBEAT.total_seconds():
                    beat = time.monotonic()
                    if not _stays(listener):
                        return
                    yield ": heartbeat\n\n"
                continue
            if change is None and not broadcaster.closed:  # it gave way: not back at once, in the place of another
                yield _retry(FULL_RETRY)
            if change is None or not _stays(listener):
                return
            own = _own(change, listener.feed)
            if own is not None:
                yield own.as_event()
    finally:
        broadcaster.unsubscribe(subscriber)


def _retry(after: timedelta) -> str:
    """When a browser whose stream ended is to ask again: a field of an event that is not finished by it."""
    return f"retry: {int(after.total_seconds() * 1000)}\n"


def live_blueprint(
    database: Database, broadcaster: Broadcaster, clock: Callable[[], datetime], still_in: Callable[[Principal], bool]
) -> Blueprint:
    """GET /live/events[?since=…]; a page names the time it was rendered, EventSource the last event it had."""
    pages = Blueprint("live", __name__)

    @pages.get("/live/events")
    def events() -> Response:
        listening, left = principal(), peer_left(request.environ)
        accounts = listening.accounts
        subscriber = broadcaster.subscribe(caller(listening), left)
        if subscriber is None:
            retry = str(int(FULL_RETRY.total_seconds()))
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many listeners.", Retry_After=retry)
        try:
            since = request.headers.get("Last-Event-ID") or request.args.get("since")
            feed = None if accounts is None else ChangeFeed(database, clock(), accounts)
            missed = _missed(database, since, clock(), accounts)
        except SQLAlchemyError:
            broadcaster.unsubscribe(subscriber)
            raise
        listener = _Listener(lambda: still_in(listening), feed)
        response = Response(_stream(broadcaster, subscriber, missed, listener), mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        # Once begun, the generator's `finally` unsubscribes; this is for a client that left before that.
        response.call_on_close(lambda: broadcaster.unsubscribe(subscriber))
        return response

    return pages
