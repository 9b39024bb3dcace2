"""Fixtures of the tests of the pages: the pages over each database, with and without a login."""

from __future__ import annotations

from collections.abc import Iterator

import page_rows as rows
import pytest
from flask.testing import FlaskClient

from webhook.storage.database import Database


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = rows.open_store(store_url)
    yield database
    database.close()


@pytest.fixture
def clock() -> rows.Clock:
    return rows.Clock()


@pytest.fixture
def charts() -> rows.FakeCharts:
    return rows.FakeCharts()


@pytest.fixture
def stranger(database: Database, clock: rows.Clock, charts: rows.FakeCharts) -> FlaskClient:
    app, actions = rows.make_app(database, clock, charts)
    app.extensions["actions"] = actions
    return app.test_client()


@pytest.fixture
def client(stranger: FlaskClient) -> FlaskClient:
    assert stranger.get(f"/login?token={rows.TOKEN}").status_code == 303
    return stranger
