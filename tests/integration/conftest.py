"""Fixtures of the tests of the pages: the pages over each database, with and without a login."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import page_rows as rows
import pytest
from access_rows import Site
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket
from pydantic import BaseModel
from stores import PATIENCE_S

from webhook.storage.database import Database

if TYPE_CHECKING:  # selenium takes its time
    from browsing import Browser
    from selenium.webdriver import Chrome

    from webhook.web.live import Broadcaster


@pytest.fixture(scope="session", autouse=True)
def schemas_once() -> Iterator[None]:
    """Each model's JSON schema is made once, not for every app of every test: that takes longer than all the rest."""
    made: dict[Any, bytes] = {}
    make = BaseModel.model_json_schema.__func__  # type: ignore[attr-defined]

    def model_json_schema(model: type[BaseModel], **wanted: Any) -> dict[str, Any]:
        key = (model, *sorted(wanted.items()))
        if key not in made:
            made[key] = pickle.dumps(make(model, **wanted))
        return pickle.loads(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseModel, "model_json_schema", classmethod(model_json_schema))
        yield


class Compiled(BytecodeCache):
    """Templates are compiled once, not for every app of every test."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_templates() -> Iterator[None]:
    cache, make = Compiled(), Flask.create_jinja_environment

    def with_cache(app: Flask) -> Environment:
        environment = make(app)
        environment.bytecode_cache = cache
        return environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "create_jinja_environment", with_cache)
        yield


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the webhook gives a server that stands still, raised: the machine of the tests does so for seconds."""
    monkeypatch.setattr("webhook.storage.database.LONGEST_WAIT_S", PATIENCE_S)
    monkeypatch.setattr("webhook.storage.database.LONGEST_STATEMENT_S", 2 * PATIENCE_S)
    monkeypatch.setattr("webhook.adapters.frequency.TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("webhook.web.rates.REDIS_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("webhook.web.oidc.PROVIDER_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("webhook.pipeline.dispatch.RECORD_WITHIN", timedelta(seconds=PATIENCE_S))


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


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from browsing import chromium

    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(driver: Chrome, site: tuple[str, Broadcaster]) -> Iterator[Browser]:
    """Logged in as the admin at the module's own `site`."""
    from browsing import WIDE, Browser

    browser = Browser(driver, site[0])
    browser.complaints()
    browser.look(WIDE, "light")
    browser.open(f"/login?token={rows.TOKEN}")
    assert rows.TOKEN not in driver.current_url
    yield browser
    driver.get("about:blank")
    driver.delete_all_cookies()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """`make_site(setting=…)`: the whole application over an SQLite store of its own."""
    made: list[Site] = []

    def make(**settings: object) -> Site:
        store = f"sqlite:///{tmp_path}/sentinel-{len(made)}.db"
        made.append(Site(rows.open_store(store), settings=settings))
        return made[-1]

    yield make
    for site in made:
        site.close()
        site.database.close()
