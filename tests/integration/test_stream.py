"""The stream of messages: each once, in one order, whichever process tells them, however often a reader comes back."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from notes import make_message, make_note
from page_rows import TOKEN
from servers import wait_for
from werkzeug.test import TestResponse

from webhook.adapters.secrets import SecretBox
from webhook.domain.access import Role
from webhook.notifiers.webapp import WebApp, WebAppOptions
from webhook.storage import stream
from webhook.storage.database import Database
from webhook.storage.keys import prefix_of, revoke_key
from webhook.storage.push import WebReaders
from webhook.storage.retention import Purge, Retention
from webhook.web import keyring, live, stream_place

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def tell(database: Database, account_id: str = "acc_017", at: datetime | None = None) -> str:
    """Send one message on the channel; return its id."""
    notification_id = str(uuid4())
    note = make_note(notification_id=notification_id, account_id=account_id, channel_type="webapp")
    clock = lambda: at or datetime.now(UTC)  # noqa: E731 - short
    WebApp(WebAppOptions(), WebReaders(database, SecretBox([], "s")), clock=clock).send(make_message(note), {})
    return notification_id


def waits(database: Database) -> bool:
    """Whether a transaction waits for the place of another one's message."""
    with database.read() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(connection.scalar(sa.text(query)))


class Stream:
    """What one browser hears, read in the background so that a test can say how long it waits."""

    opened: ClassVar[list[Stream]] = []

    def __init__(self, response: TestResponse) -> None:
        assert response.status_code == 200, response.text
        self._response = response
        self._heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.place = ""
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.opened.append(self)
        assert self._begun.wait(60)

    @classmethod
    def join_all(cls) -> None:
        """After their broadcasters were closed."""
        while cls.opened:
            cls.opened.pop()._thread.join(60)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "live"], what="pollers gone")

    def _read(self) -> None:
        for chunk in self._response.response:
            self._begun.set()
            text = bytes(chunk).decode()  # type: ignore[arg-type]
            if text.startswith("id: "):
                fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
                self._heard.put({"id": fields["id"], "event": fields["event"], "data": json.loads(fields["data"])})
        self._heard.put(None)

    def next(self, *names: str) -> dict[str, Any]:
        """The next event that is called one of `names`."""
        while True:
            event = self._heard.get(timeout=60)
            assert event is not None, "the stream has ended"
            self.place = event["id"]
            if event["event"] in names:
                return event

    def message(self) -> str:
        found: str = self.next("notification")["data"]["notification_id"]
        return found

    def ended(self) -> bool:
        while self._heard.get(timeout=60) is not None:
            pass
        return True


@pytest.fixture
def serves(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[..., Stream]]]:
    """Two `serve` processes on one store; each opens streams."""
    monkeypatch.setattr(live, "POLL_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(live, "PEER_CHECK", timedelta(milliseconds=50))
    apps = [rows.make_app(database, lambda: datetime.now(UTC))[0] for _ in range(2)]

    def opener(app: Any) -> Callable[..., Stream]:
        def listen(place: str = "", path: str = "/live/events") -> Stream:
            headers = {**BEARER, **({"Last-Event-ID": place} if place else {})}
            return Stream(app.test_client().get(path, headers=headers))

        return listen

    yield [opener(app) for app in apps]
    for app in apps:
        app.extensions["sentinel_broadcaster"].close()
    Stream.join_all()


def test_a_message_arrives_as_the_owner_wants_it(database: Database, serves: list[Callable[..., Stream]]) -> None:
    reader = serves[0]()
    notification_id = tell(database)
    assert reader.next("notification")["data"] == {
        "notification_id": notification_id,
        "type": "fraud_alert",
        "severity": "P1",
        "title": "Card testing attack: Northwind Books",
        "body": make_message().text.replace("\n\n", " "),
        "alert_id": "22222222-2222-4222-8222-222222222222",
        "timestamp": "2025-11-21T10:42:30Z",
        "merchant": "Northwind Books",
        "reason": "first",
        "actions": [
            {"label": "View Details", "action": "navigate", "url": "/alerts/22222222-2222-4222-8222-222222222222"},
            {"label": "Dismiss", "action": "dismiss"},
        ],
    }


def test_who_comes_back_anywhere_hears_what_was_missed_once_and_in_order(
    database: Database, serves: list[Callable[..., Stream]]
) -> None:
    tell(database)  # before anybody listened
    reader = serves[0]()
    sent = [tell(database)]
    assert reader.message() == sent[0]
    place = reader.place
    sent += [tell(database) for _ in range(3)]
    again = serves[1](place)
    sent.append(tell(database))
    assert [again.message() for _ in range(4)] == sent[1:]
    by_query = serves[0](path=f"/live/events?last_event_id={place}")
    assert [by_query.message() for _ in range(4)] == sent[1:]
    nothing = serves[0](again.place)
    last = tell(database)
    assert nothing.message() == last, "nothing that was heard already"


def test_messages_that_come_while_readers_come_and_go_are_told_once(
    database: Database, serves: list[Callable[..., Stream]]
) -> None:
    """A reader that moves to the other process after each message, while two workers send."""
    reader, heard = serves[0](), []
    sent: list[str] = []

    def work() -> None:
        sent.extend([tell(database) for _ in range(10)])

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(20):
        heard.append(reader.message())
        reader = serves[number % 2](reader.place)
    for worker in workers:
        worker.join()
    assert sorted(heard) == sorted(sent)
    last = tell(database)
    assert reader.message() == last


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_message_whose_transaction_is_slow_is_not_overtaken(
    database: Database, serves: list[Callable[..., Stream]]
) -> None:
    """The trap of PostgreSQL: number 8 committed before 7 would hide 7 from who has seen 8."""
    reader = serves[0]()
    slow, done = str(uuid4()), threading.Event()
    with database.write() as connection:
        stream.publish(connection, slow, "acc_017", {"notification_id": slow}, datetime.now(UTC))
        quick: list[str] = []

        def overtake() -> None:
            quick.append(tell(database))
            done.set()

        other = threading.Thread(target=overtake, daemon=True)
        other.start()
        wait_for(lambda: waits(database) or done.is_set(), what="the quick one to wait, or to be through")
    other.join(60)
    assert [reader.message() for _ in range(2)] == [slow, quick[0]]


def test_a_message_that_is_sent_again_is_told_once(database: Database, serves: list[Callable[..., Stream]]) -> None:
    reader = serves[0]()
    channel = WebApp(WebAppOptions(), WebReaders(database, SecretBox([], "s")))
    for _ in range(2):
        channel.send(make_message(), {})
    last = tell(database)
    assert [reader.message() for _ in range(2)] == [make_message().notification_id, last]


def test_who_has_missed_too_much_is_told_to_load_anew_and_goes_on_from_there(
    database: Database, serves: list[Callable[..., Stream]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_place, "MOST", 3)
    reader = serves[0]()
    tell(database)
    place = (reader.message(), reader.place)[1]
    for _ in range(4):
        tell(database)
    again = serves[1](place)
    again.next("reset")
    last = tell(database)
    assert again.message() == last
    gone_on = serves[0](again.place)
    assert tell(database) == gone_on.message()


def test_who_comes_after_messages_were_forgotten_or_from_another_store_is_told_to_load_anew(
    database: Database, serves: list[Callable[..., Stream]]
) -> None:
    now = datetime.now(UTC)
    old = now - stream.KEPT - timedelta(hours=1)
    reader = serves[0]()
    tell(database, at=old)
    place = (reader.message(), reader.place)[1]
    for _ in range(2):
        tell(database, at=old)
    day = timedelta(days=1)
    purged = Purge(database, Retention(alerts=30 * day, audit=30 * day), rows.AlertTypes()).run_once(now)
    assert purged["stream_event"] == 2, "the last one tells where we are"
    serves[1](place).next("reset")
    time, _, position = place.partition("/")
    serves[1](f"{time}/{int(position) + 100}").next("reset")
    gone_on = serves[1](f"{time}/{int(position) + 2}")
    assert tell(database) == gone_on.message()


def test_a_page_hears_what_came_since_it_was_rendered(database: Database, serves: list[Callable[..., Stream]]) -> None:
    rendered = datetime.now(UTC)
    tell(database, at=rendered - timedelta(seconds=5))
    since = tell(database, at=rendered + timedelta(seconds=1))
    assert serves[0](path=f"/live/events?since={rendered:%Y-%m-%dT%H:%M:%S.%fZ}").message() == since


# ---- who may hear what -----------------------------------------------------------------------------


@pytest.fixture
def site(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(live, "POLL_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(live, "PEER_CHECK", timedelta(milliseconds=50))
    site = make_site()
    yield site
    site.app.extensions["sentinel_broadcaster"].close()
    Stream.join_all()


def test_a_merchant_hears_its_own_messages_alone(site: Site) -> None:
    key = {"X-API-Key": site.keys[Role.MERCHANT]}
    reader = Stream(site.client().get("/live/events", headers=key))
    tell(site.database, FOREIGN)
    own = tell(site.database, OWN)
    assert reader.message() == own
    tell(site.database, FOREIGN)
    more = tell(site.database, OWN)
    again = Stream(site.client().get("/live/events", headers={**key, "Last-Event-ID": reader.place}))
    assert again.message() == more


@pytest.mark.parametrize("by_session", [False, True])
def test_a_revoked_key_ends_its_stream_and_that_of_its_session(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, by_session: bool
) -> None:
    monkeypatch.setattr(keyring, "KEPT_FOR", timedelta(0))
    key = site.keys[Role.MERCHANT]
    client, headers = (site.logged_in(key), {}) if by_session else (site.client(), {"X-API-Key": key})
    reader = Stream(client.get("/live/events", headers=headers))
    reader_place = tell(site.database, OWN)
    assert reader.message() == reader_place
    with site.database.write() as connection:
        revoke_key(connection, prefix_of(key) or "", rows.ADMIN, site.clock())
    tell(site.database, OWN)
    assert reader.ended()
    assert reader.place, "and the message was not told"


def test_a_login_that_has_lasted_its_time_ends_its_stream(site: Site) -> None:
    reader = Stream(site.logged_in(site.keys[Role.ADMIN]).get("/live/events"))
    site.clock.now += timedelta(days=8)
    tell(site.database, OWN)
    assert reader.ended()
