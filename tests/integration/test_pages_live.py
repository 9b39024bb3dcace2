"""Server-sent events: what changed is told once, to everybody who listens, and missed by nobody."""

from __future__ import annotations

import itertools
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import page_rows as rows
import pytest
import sqlalchemy as sa
from page_rows import NOW, TOKEN
from servers import wait_for
from structlog.testing import capture_logs

from webhook.storage.database import Database
from webhook.storage.tables import alert_dynamic, notification
from webhook.web import live
from webhook.web.live import Broadcaster, Change, ChangeFeed, Subscriber


def touch(database: Database, alert_id: str, at: datetime) -> None:
    with database.write() as connection:
        connection.execute(sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == alert_id).values(updated_at=at))


def set_notification(database: Database, notification_id: str, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(sa.update(notification).where(notification.c.id == notification_id).values(**values))


# ---- what the poller sees --------------------------------------------------------------------------


def test_what_was_there_already_is_no_change(database: Database) -> None:
    rows.seed(database)
    assert ChangeFeed(database, NOW).poll() is None


def test_each_change_is_seen_once(database: Database) -> None:
    old = rows.insert_alert(database)
    feed = ChangeFeed(database, NOW)
    new = rows.insert_alert(database, at=NOW + timedelta(seconds=1))
    change = feed.poll()
    assert change
    assert (change.alerts, change.triggers, change.many) == ({new}, False, False)
    assert feed.poll() is None
    touch(database, old, NOW + timedelta(seconds=2))
    change = feed.poll()
    assert change
    assert change.alerts == {old}
    assert change.cursor == NOW + timedelta(seconds=2)


def test_a_transaction_that_commits_late_is_not_missed(database: Database) -> None:
    feed = ChangeFeed(database, NOW)
    rows.insert_alert(database, at=NOW + timedelta(seconds=9))
    assert feed.poll()
    late = rows.insert_alert(database, at=NOW + timedelta(seconds=1))
    change = feed.poll()
    assert change
    assert change.alerts == {late}


def test_a_message_on_its_way_changes_its_alert(database: Database) -> None:
    alert_id = rows.insert_alert(database, at=NOW - timedelta(hours=1))
    sent = rows.insert_notification(database, alert_id, status="PENDING")
    feed = ChangeFeed(database, NOW)
    states = [
        {"status": "SENDING", "lease_until": NOW},
        {"status": "PENDING", "lease_until": None, "retry_count": 1},
        {"status": "SENT", "sent_at": NOW},
    ]
    for state in states:
        set_notification(database, sent, **state)
        change = feed.poll()
        assert change, state
        assert change.alerts == {alert_id}
    assert feed.poll() is None


def test_a_suppressed_trigger_is_told_to_who_looks_at_triggers(database: Database) -> None:
    feed = ChangeFeed(database, NOW)
    rows.insert_trigger(database, outcome="suppressed", at=NOW)
    change = feed.poll()
    assert change
    assert (change.alerts, change.triggers) == (frozenset(), True)


def test_a_flood_is_told_without_names(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WATCHED", 3)
    feed = ChangeFeed(database, NOW)
    for second in range(4):
        rows.insert_alert(database, at=NOW + timedelta(seconds=second))
    change = feed.poll()
    assert change
    assert (change.alerts, change.many) == (frozenset(), True)


# ---- handing it out --------------------------------------------------------------------------------


@pytest.fixture
def broadcaster(database: Database, monkeypatch: pytest.MonkeyPatch) -> Broadcaster:
    monkeypatch.setattr(live, "POLL_INTERVAL", timedelta(milliseconds=20))
    return Broadcaster(database, lambda: NOW, limit=2)


def pollers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "live"}


def subscribed(broadcaster: Broadcaster, holder: str, left: Callable[[], bool] = live.never) -> Subscriber:
    found = broadcaster.subscribe(holder, left)
    assert found
    return found


def test_one_thread_serves_all_and_ends_with_the_last(database: Database, broadcaster: Broadcaster) -> None:
    others = pollers()  # of earlier tests, that are about to end
    first, second = subscribed(broadcaster, "a"), subscribed(broadcaster, "b")
    (poller,) = pollers() - others
    assert broadcaster.subscribe("c") is None  # enough is enough
    alert_id = rows.insert_alert(database, at=NOW)
    for subscriber in (first, second):
        change = subscriber.changes.get(timeout=60)
        assert change
        assert change.alerts == {alert_id}
        broadcaster.unsubscribe(subscriber)
        broadcaster.unsubscribe(subscriber)  # a second time does no harm
    wait_for(lambda: not poller.is_alive(), what="poller gone")
    again = subscribed(broadcaster, "a")
    (poller,) = pollers() - others
    broadcaster.unsubscribe(again)
    wait_for(lambda: not poller.is_alive(), what="poller gone")


def test_who_has_left_gives_way(broadcaster: Broadcaster) -> None:
    left = threading.Event()
    gone, there = subscribed(broadcaster, "a", left.is_set), subscribed(broadcaster, "b")
    assert broadcaster.subscribe("c") is None
    left.set()
    new = subscribed(broadcaster, "c")
    assert gone.changes.get_nowait() is None
    for subscriber in (there, new):
        broadcaster.unsubscribe(subscriber)


def test_whoever_opens_many_streams_loses_its_own_oldest_and_shuts_nobody_out(database: Database) -> None:
    broadcaster = Broadcaster(database, lambda: NOW, limit=4)
    many = [subscribed(broadcaster, "greedy") for _ in range(3)]
    assert broadcaster.subscribers == 2  # half of all
    assert many[0].changes.get_nowait() is None
    others = [subscribed(broadcaster, name) for name in ("b", "c")]
    late = subscribed(broadcaster, "d")
    assert many[1].changes.get_nowait() is None, "who holds most gives one to who has none"
    assert all(other.changes.empty() for other in (many[2], *others, late))
    assert broadcaster.subscribe("e") is None, "of those who have one each nobody has to go"
    for subscriber in (many[2], *others, late):
        broadcaster.unsubscribe(subscriber)


def test_a_closed_connection_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        left = live.peer_left({"gunicorn.socket": ours})
        assert not left()
        theirs.send(b"more")
        assert not left()
        ours.recv(4)
        theirs.close()
        assert left()
    assert left()
    assert not live.peer_left({})()


def test_a_slow_reader_is_told_that_much_has_changed(broadcaster: Broadcaster) -> None:
    slow = subscribed(broadcaster, "a")
    for number in range(live.QUEUED_EVENTS + 1):
        broadcaster.publish(Change(NOW, frozenset({str(number)})))
    change = slow.changes.get_nowait()
    assert change
    assert change.many
    assert slow.changes.empty()
    broadcaster.unsubscribe(slow)


def test_a_reader_that_empties_its_queue_meanwhile_harms_nobody() -> None:
    """Full when a change is put, empty when it is to be emptied."""

    class Raced(queue.Queue[Change | None]):
        def put_nowait(self, item: Change | None) -> None:
            if not self.raced:
                self.raced = True
                raise queue.Full
            super().put_nowait(item)

        raced = False

        def empty(self) -> bool:
            return False

    subscriber = Subscriber("a", live.never, Raced())
    subscriber.put(Change(NOW))
    change = subscriber.changes.get_nowait()
    assert change
    assert change.many


def test_an_error_in_one_look_does_not_end_the_thread(
    database: Database, broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, poll, failures = pollers(), ChangeFeed.poll, iter([RuntimeError("unforeseen")])

    def poll_after_failing(feed: ChangeFeed) -> Change | None:
        for failure in failures:
            raise failure
        return poll(feed)

    monkeypatch.setattr(ChangeFeed, "poll", poll_after_failing)
    subscriber = subscribed(broadcaster, "a")
    (poller,) = pollers() - others
    alert_id = rows.insert_alert(database, at=NOW)
    change = subscriber.changes.get(timeout=60)
    assert change
    assert change.alerts == {alert_id}
    assert next(failures, None) is None, "it has failed once"
    broadcaster.unsubscribe(subscriber)
    wait_for(lambda: not poller.is_alive(), what="poller gone")


def test_a_database_that_was_away_for_a_moment_ends_nothing(database: Database, broadcaster: Broadcaster) -> None:
    subscriber = subscribed(broadcaster, "a")
    with capture_logs() as logs:
        with database.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE notification RENAME TO elsewhere"))
        wait_for(lambda: "live_poll_failed" in {entry["event"] for entry in logs}, what="a poll that failed")
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE elsewhere RENAME TO notification"))
    alert_id = rows.insert_alert(database, at=NOW)
    change = subscriber.changes.get(timeout=60)
    assert change
    assert alert_id in change.alerts
    broadcaster.unsubscribe(subscriber)


# ---- over HTTP -------------------------------------------------------------------------------------


class Events:
    """The events of one stream, read as a browser does."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.start = next(chunks).decode()

    def __next__(self) -> dict[str, Any]:
        event = next(chunk.decode() for chunk in self._chunks if not chunk.startswith(b":"))  # what is no heartbeat
        fields = dict(line.split(": ", 1) for line in event.strip().split("\n"))
        return {"id": fields["id"], "event": fields["event"], **json.loads(fields["data"])}


@pytest.fixture
def listen(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Events]]:
    monkeypatch.setattr(live, "POLL_INTERVAL", timedelta(milliseconds=20))
    app, _ = rows.make_app(database, lambda: datetime.now(UTC))
    opened = []

    def start(path: str = "/live/events", **headers: str) -> Events:
        bearer = {
            "Authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        response = app.test_client().get(path, headers=bearer)
        opened.append(response)
        assert response.status_code == 200, response.text
        assert response.mimetype == "text/event-stream"
        return Events(iter(response.response))  # type: ignore[arg-type]

    yield start
    for response in opened:
        response.close()
    broadcaster: Broadcaster = app.extensions["sentinel_broadcaster"]
    assert broadcaster.subscribers == 0


def test_an_open_stream_tells_of_a_change_with_a_cursor(database: Database, listen: Callable[..., Events]) -> None:
    events = listen()
    assert "retry: " in events.start
    at = datetime.now(UTC)
    alert_id = rows.insert_alert(database, at=at)
    event = next(events)
    assert event["alerts"] == [alert_id]
    assert event["event"] == "change"
    assert datetime.fromisoformat(event["id"].partition("/")[0]) == at


def test_who_comes_back_is_told_what_was_missed(database: Database, listen: Callable[..., Events]) -> None:
    now = datetime.now(UTC)
    missed = rows.insert_alert(database, at=now - timedelta(minutes=1))
    rows.insert_alert(database, at=now - timedelta(hours=1))
    by_header = next(listen(Last_Event_ID=(now - timedelta(minutes=2)).isoformat()))
    by_query = next(listen("/live/events?since=" + (now - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")))
    assert by_header["alerts"] == by_query["alerts"] == [missed]


@pytest.mark.parametrize(
    "nonsense",
    ["yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "\u0664", "2026-03-14T15:09:26Z/\u0664",
     "2026-03-14T15:09:26Z/99999999999999999999", "2026-03-14T15:09:26Z/-1", "2026-03-14T15:09:26Z/"],
)  # fmt: skip
def test_who_names_no_place_is_told_to_load_anew(listen: Callable[..., Events], nonsense: str) -> None:
    assert next(listen(f"/live/events?since={nonsense}"))["event"] == "reset"


def test_too_many_listeners_are_told_to_come_back(database: Database) -> None:
    app, _ = rows.make_app(database)
    broadcaster: Broadcaster = app.extensions["sentinel_broadcaster"]
    subscribers = [subscribed(broadcaster, f"holder {number}") for number in range(live.DEFAULT_SUBSCRIBERS)]
    response = app.test_client().get("/live/events", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 503
    assert response.mimetype == "application/problem+json"
    assert response.headers["Retry-After"] == "30"
    for subscriber in subscribers:
        broadcaster.unsubscribe(subscriber)


def test_a_stream_that_gives_way_says_to_come_back_later(database: Database) -> None:
    app, _ = rows.make_app(database)
    broadcaster: Broadcaster = app.extensions["sentinel_broadcaster"]
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    first = app.test_client().get("/live/events", headers=bearer)
    chunks = iter(first.response)
    next(chunks)
    opened = [app.test_client().get("/live/events", headers=bearer) for _ in range(live.DEFAULT_SUBSCRIBERS // 2)]
    assert {response.status_code for response in opened} == {200}
    assert [bytes(chunk) for chunk in chunks] == [b"retry: 30000\n"]  # type: ignore[arg-type]
    for response in (first, *opened):
        response.close()
    assert broadcaster.subscribers == 0


def test_closing_ends_every_stream_and_takes_no_new_ones(database: Database) -> None:
    app, _ = rows.make_app(database)
    broadcaster: Broadcaster = app.extensions["sentinel_broadcaster"]
    with app.test_client().get("/live/events", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        stream = iter(response.response)  # type: ignore[arg-type]
        next(stream)
        broadcaster.close()
        assert list(stream) == []
    assert broadcaster.subscribers == 0
    assert broadcaster.subscribe("a") is None


def test_an_idle_stream_beats_and_ends_after_its_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by 10 seconds whenever it is looked at."""
    seconds = itertools.count(0, 10)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(live, "PEER_CHECK", timedelta(milliseconds=1))
    app, _ = rows.make_app(database)
    with app.test_client().get("/live/events", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        chunks = list(response.response)
    assert chunks[1:]
    assert {bytes(chunk) for chunk in chunks[1:]} == {b": heartbeat\n\n"}  # type: ignore[arg-type]
