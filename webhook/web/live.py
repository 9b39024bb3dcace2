"""Server-sent events: pages learn that something changed and fetch themselves anew.

One thread per process polls the store while anybody listens, whoever wrote the change: any `serve` or `worker`.
A `change` names the alerts that changed, or says that they were many; it carries no data of theirs. A `notification` is
a message of the channel `webapp`; who has missed too many gets a `reset`. A merchant hears of its own accounts alone:
whenever anything changes, its stream looks for itself. How a stream is gone on with: `webhook.web.stream_place`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

import structlog
from flask import Blueprint, Response, request
from sqlalchemy.exc import SQLAlchemyError

from webhook.storage.changes import changed_alerts, last_trigger_at, open_notifications
from webhook.storage.database import Database
from webhook.storage.stream import last_position
from webhook.web.access import principal
from webhook.web.peer import never, peer_left
from webhook.web.problems import problem
from webhook.web.rates import caller
from webhook.web.stream_place import Messages, Place, event, parse_place

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
    """`alerts` are ids; empty with `many` set when there are too many to name, or when only triggers came.

    `position` is that of the newest message of anybody; that there is one is no change of an alert.
    """

    cursor: datetime
    alerts: frozenset[str] = frozenset()
    triggers: bool = False
    many: bool = False
    position: int = 0

    def as_event(self, place: Place) -> str:
        """Empty where nothing but messages came."""
        if not (self.alerts or self.triggers or self.many):
            return ""
        place.at = max(place.at, self.cursor)
        data = {"alerts": sorted(self.alerts), "triggers": self.triggers, "many": self.many}
        return event("change", place, data)


class ChangeFeed:
    """Compares the store with what it saw the last time, of `accounts` or all; not shared between threads."""

    def __init__(self, database: Database, since: datetime, accounts: frozenset[str] | None = None) -> None:
        self._database = database
        self._accounts = accounts
        self.cursor = since
        self._seen: dict[str, datetime] = {}
        self._notifications: dict[str, tuple[str, str]] = {}
        self._last_trigger: datetime | None = None
        self._position = 0
        self._look()  # what is there already is no change

    def poll(self) -> Change | None:
        """What changed since the last call; None for nothing. Raises SQLAlchemyError."""
        before = self._position
        alerts, triggers, many = self._look()
        if not (alerts or triggers or many or self._position != before):
            return None
        return Change(self.cursor, frozenset() if many else frozenset(alerts), triggers, many, self._position)

    def _look(self) -> tuple[set[str], bool, bool]:
        with self._database.read() as connection:
            rows = changed_alerts(connection, self.cursor - OVERLAP, WATCHED, accounts=self._accounts)
            notifications = open_notifications(connection, WATCHED, accounts=self._accounts)
            last_trigger = last_trigger_at(connection, accounts=self._accounts)
            position = last_position(connection)
        updated = dict(rows)
        alerts = {alert_id for alert_id, at in updated.items() if self._seen.get(alert_id) != at}
        moved = notifications.items() ^ self._notifications.items()
        alerts |= {alert_id for _, (alert_id, _) in moved}
        triggers = last_trigger != self._last_trigger
        self._seen, self._notifications, self._last_trigger = updated, notifications, last_trigger
        self._position = position
        self.cursor = max([self.cursor, *updated.values()])
        return alerts, triggers, len(rows) >= WATCHED and bool(alerts)


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
            self.changes.put_nowait(
                change and Change(change.cursor, triggers=True, many=True, position=change.position)
            )


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


def _missed(database: Database, since: datetime, accounts: frozenset[str] | None) -> Change | None:
    """Which alerts have changed since a page was rendered, or last heard of us."""
    look_from = since - OVERLAP
    with database.read() as connection:
        rows = changed_alerts(connection, look_from, WATCHED, accounts=accounts)
        last_trigger = last_trigger_at(connection, accounts=accounts)
    triggers = last_trigger is not None and last_trigger >= look_from
    if not rows and not triggers:
        return None
    newest = max([since, *(at for _, at in rows)])
    many = len(rows) >= WATCHED
    return Change(newest, frozenset() if many else frozenset(alert_id for alert_id, _ in rows), triggers, many)


def _begun(database: Database, given: str | None, now: datetime, accounts: frozenset[str] | None) -> _Begun:
    """From the place that the client names, or from now on; what it says first is what was missed since."""
    messages = Messages(database, accounts, Place(now))
    if not given:
        messages.start(known=False)
        return _Begun(messages, "")
    try:
        messages.place = parse_place(given)
        missed = _missed(database, messages.place.at, accounts)
    except (ValueError, OverflowError):  # what is no place, or so long ago that nothing was before it
        messages.place = Place(now)
        messages.start(known=False)
        return _Begun(messages, messages.reset())
    if not messages.start(known=True):
        messages.place.at = now
        return _Begun(messages, messages.reset())
    return _Begun(messages, "" if missed is None else missed.as_event(messages.place))


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
class _Begun:
    """What a stream goes on from, and what it says first."""

    messages: Messages
    first: str


@dataclass(frozen=True, slots=True)
class _Listener:
    """`admitted`: is still let in; `feed`: of a merchant."""

    admitted: Callable[[], bool]
    feed: ChangeFeed | None
    messages: Messages

    def news(self, change: Change) -> Iterator[str]:
        own = _own(change, self.feed)
        if own is not None and (text := own.as_event(self.messages.place)):
            yield text
        self.messages.wanted = max(self.messages.wanted, change.position)
        yield from self.told()

    def told(self) -> Iterator[str]:
        """Messages that have not been told yet; while the store is away they wait for the next look."""
        try:
            yield from self.messages.new()
        except SQLAlchemyError as error:
            log.warning("live_poll_failed", error=type(error).__name__)


def _stays(listener: _Listener) -> bool:
    """A store that is away shuts nobody out."""
    try:
        return listener.admitted()
    except SQLAlchemyError:
        return True


def _stream(broadcaster: Broadcaster, subscriber: Subscriber, first: str, listener: _Listener) -> Iterator[str]:
    """Events and heartbeats, for about STREAM_LIFETIME; the client comes back by itself."""
    beat = time.monotonic()
    end = beat + STREAM_LIFETIME.total_seconds()
    try:
        yield f"{_retry(RECONNECT)}: connected\n\n"
        if first:
            yield first
        while time.monotonic() < end and not subscriber.left():
            yield from listener.told()
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
            yield from listener.news(change)
    finally:
        broadcaster.unsubscribe(subscriber)


def _retry(after: timedelta) -> str:
    """When a browser whose stream ended is to ask again: a field of an event that is not finished by it."""
    return f"retry: {int(after.total_seconds() * 1000)}\n"


def live_blueprint(
    database: Database,
    broadcaster: Broadcaster,
    clock: Callable[[], datetime],
    staying: Callable[[], Callable[[], bool]],
) -> Blueprint:
    """GET /live/events[?since=…]; a page names the time it was rendered, EventSource the last event it had.

    What cannot send the header Last-Event-ID sends `last_event_id`. `staying` is of the request being handled.
    """
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
            named = (request.headers.get("Last-Event-ID"), *map(request.args.get, ("last_event_id", "since")))
            feed = None if accounts is None else ChangeFeed(database, clock(), accounts)
            begun = _begun(database, next(filter(None, named), None), clock(), accounts)
        except SQLAlchemyError:
            broadcaster.unsubscribe(subscriber)
            raise
        listener = _Listener(staying(), feed, begun.messages)
        response = Response(_stream(broadcaster, subscriber, begun.first, listener), mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        # Once begun, the generator's `finally` unsubscribes; this is for a client that left before that.
        response.call_on_close(lambda: broadcaster.unsubscribe(subscriber))
        return response

    return pages
