"""PostgreSQL that says nothing any more: whoever delivers is told to come back, and all goes on when it is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from servers_database import Relay, relay
from stores import migrate

from webhook.app import create_app
from webhook.config import Settings
from webhook.storage.database import Database, allow

PATH, TOKEN = "/api/v1/alerts/prometheus/webhook", {"Authorization": "Bearer " + "i" * 20}
PAYLOAD = {"alerts": [{"status": "firing", "labels": {"alertname": "A", "account_id": "a"}, "fingerprint": "f",
                       "startsAt": "2026-01-05T12:00:00Z"}]}  # fmt: skip

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@pytest.fixture
def between(store_url: str) -> Iterator[Relay]:
    migrate(store_url)
    with relay(sa.make_url(store_url).port or 0) as found:
        yield found


@pytest.fixture
def url(store_url: str, between: Relay) -> str:
    return sa.make_url(store_url).set(port=between.port).render_as_string(hide_password=False)


@pytest.fixture
def client(url: str) -> Iterator[FlaskClient]:
    settings = Settings(database_url=url, ingest_token="i" * 20, admin_token="a" * 20, secret_key="s" * 20)
    app = create_app(settings)
    yield app.test_client()
    app.extensions["sentinel_database"].close()


def test_a_delivery_is_answered_with_503_and_taken_when_the_database_is_back(
    client: FlaskClient, between: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post(PATH, json=PAYLOAD, headers=TOKEN).status_code == 200
    between.silent.set()
    with monkeypatch.context() as hasty:
        for name in ("LONGEST_WAIT_S", "LONGEST_STATEMENT_S"):
            hasty.setattr(f"webhook.storage.database.{name}", 1)
        refused = client.post(PATH, json=PAYLOAD, headers=TOKEN)
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert client.get("/-/ready").status_code == 503
    between.silent.clear()
    between.cut()
    assert client.post(PATH, json=PAYLOAD, headers=TOKEN).status_code == 200


def test_a_statement_ends_in_time_unless_it_may_last(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.storage.database.LONGEST_STATEMENT_S", 1)
    database = Database(url)
    with database.read() as connection, pytest.raises(sa.exc.OperationalError, match="statement timeout"):
        connection.execute(sa.text("SELECT pg_sleep(600)"))
    monkeypatch.setattr("webhook.storage.database.LONGEST_WAIT_S", 0.5)
    with database.read() as connection:
        allow(connection, timedelta(minutes=5))
        connection.execute(sa.text("SELECT pg_sleep(2.5)"))
    with database.read() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "1s", "the next one is bounded again"
    database.close()


def test_what_a_thread_uses_while_the_database_is_closed_ends_with_it(url: str) -> None:
    database = Database(url)
    with database.read() as late:
        database.close()
        assert late.scalar(sa.text("SELECT 1")) == 1
        driver = late.connection.driver_connection
    assert driver.closed
    with database.read() as later:
        driver = later.connection.driver_connection
    assert driver.closed
