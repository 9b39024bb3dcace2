"""Whatever goes wrong, on whatever route: the answer is a problem document (RFC 9457) with the right status."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
from access_rows import OWN, Site
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from webhook.domain.access import MAY, Role
from webhook.storage.database import Database

RECEIVER = "/api/v1/alerts/prometheus/webhook"
SIGNED = ("/api/v1/sms/status", "/api/v1/slack/interactions")
DOCUMENT, LIVE = "/api/v1/openapi.json", "/live/events"
OF_OWN = {"merchant_id": OWN, "alert_type": "CARD_TESTING"}
QUERIES = {
    "GET /api/v1/alerts/config": {"merchant_id": OWN},
    "DELETE /api/v1/alerts/config": OF_OWN,
    "GET /api/v1/alerts/config/versions": OF_OWN,
}
BODIES: dict[str, Any] = {
    "resolve": {"resolution_note": "x"},
    "dismiss": {"dismiss_reason": "x"},
    "comments": {"content": "x"},
    "config": OF_OWN,
    "preview": OF_OWN,
    "webhook-secret": OF_OWN,
    "restore": OF_OWN | {"restore_version": 1},
    "metrics": OF_OWN | {"metrics": [{"metric_name": "a", "metric_value": 1.0, "threshold": 0.5}]},
    "webhook": {"alerts": [{"labels": {"account_id": OWN}, "startsAt": rows.NOW.isoformat()}]},
    "api-keys": {"name": "x", "role": "ops"},
    "{alert_type}": {"prompt_template": "<alert_data>{{metrics_data}}</alert_data>"},
    "/api/v1/alert-templates/{alert_type}/restore": {"restore_version": 1},
    "/api/v1/alert-templates/{alert_type}/test": {"alert_id": str(uuid4())},
}
"""By path, or by its end."""


PUSH = "/api/v1/push"
STORELESS = {("GET", DOCUMENT), ("GET", f"{PUSH}/key"), ("POST", f"{PUSH}/subscriptions")}
"""They ask no database: push messages are not set up here."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    takes_body: bool

    def ask(self, site: Site, key: str | None, **sent: Any) -> TestResponse:
        """As somebody would who wants it to succeed; `sent` instead of the body."""
        path = self.path.format(
            alert_id=site.own,
            alert_type="X",
            image_format="png",
            name="console",
            notification_id=uuid4(),
            prefix="sk_12345678",
            subscription_id=uuid4(),
        )
        if not sent and self.takes_body:
            sent = {"json": BODIES.get(self.path, BODIES.get(self.path.rsplit("/", 1)[1], {}))}
        headers = {"If-Match": "*"} | ({"X-API-Key": key} if key else {})
        query = QUERIES.get(f"{self.method} {self.path}", {})
        response = site.client().open(path, method=self.method, query_string=query, headers=headers, **sent)
        response.close()
        return response


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory, dict.fromkeys(("read", "write", "address"), "off"))


def _site(tmp_path_factory: pytest.TempPathFactory, rates: dict[str, str]) -> Iterator[Site]:
    settings: dict[str, object] = {f"rate_limit_{of}": limit for of, limit in rates.items()}
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db"
    site = Site(rows.open_store(store), settings=settings | {"max_body_bytes": 100_000})
    yield site
    site.close()
    site.database.close()


@pytest.fixture(scope="module")
def routes(site: Site) -> list[Route]:
    """Every one of the document, the document itself, and the stream of events."""
    found = [Route("GET", DOCUMENT, takes_body=False), Route("GET", LIVE, takes_body=False)]
    for path, operations in site.app.api_doc["paths"].items():  # type: ignore[attr-defined]
        if path in SIGNED:  # by signature alone: nobody has rights there, nor a body that is JSON
            continue
        for method, operation in operations.items():
            found.append(Route(method.upper(), path, takes_body="requestBody" in operation))
    assert len(found) > 35
    return found


def wrong(routes: list[Route], ask: Callable[[Route], TestResponse], status: int) -> list[str]:
    """Of each route, what its answer is instead of a problem with this status."""
    found = []
    for route in routes:
        response = ask(route)
        told = response.get_json(force=True, silent=True) or {}
        as_wanted = {"status": status, "mimetype": "application/problem+json", "members": True}
        members = told.get("status") == status and bool(told.get("title")) and bool(told.get("detail"))
        given = {"status": response.status_code, "mimetype": response.mimetype, "members": members}
        if given != as_wanted:
            found.append(f"{route.method} {route.path}: {given} {response.text[:200]}")
    return found


def test_what_is_not_there_is_404(site: Site, routes: list[Route]) -> None:
    site.own, own = str(uuid4()), site.own
    try:
        named = [route for route in routes if re.search(r"\{(alert_id|notification_id|prefix)\}", route.path)]
        assert wrong(named, lambda route: route.ask(site, site.keys[Role.ADMIN]), 404) == []
    finally:
        site.own = own
    nowhere = [Route("GET", "/api/v1/nothing", takes_body=False), Route("GET", "/live/nothing", takes_body=False)]
    assert wrong(nowhere, lambda route: route.ask(site, site.keys[Role.ADMIN]), 404) == []


def test_another_method_is_405_and_says_which_there_are(site: Site, routes: list[Route]) -> None:
    patched = [Route("PATCH", route.path, takes_body=False) for route in routes]
    assert wrong(patched, lambda route: route.ask(site, site.keys[Role.ADMIN]), 405) == []
    assert {bool(route.ask(site, site.keys[Role.ADMIN]).headers["Allow"]) for route in patched} == {True}


def test_too_much_is_413(site: Site, routes: list[Route]) -> None:
    much = {"data": b'{"a": "' + b"x" * 100_001, "content_type": "application/json"}
    taking = [route for route in routes if route.takes_body]
    assert wrong(taking, lambda route: route.ask(site, site.keys[Role.ADMIN], **much), 413) == []


def test_what_is_no_json_is_415_or_400(site: Site, routes: list[Route]) -> None:
    """Alertmanager's deliveries are JSON whatever their header says."""
    taking = [route for route in routes if route.takes_body]
    as_text = {"data": b"{}", "content_type": "text/plain"}
    others = [route for route in taking if route.path != RECEIVER]
    assert wrong(others, lambda route: route.ask(site, site.keys[Role.ADMIN], **as_text), 415) == []
    for data in (b"{", b"[]", b"\xff", b'{"nothing": "of ours"}', b"[" * 10_000):
        broken = {"data": data, "content_type": "application/json"}
        assert wrong(taking, lambda route: route.ask(site, site.keys[Role.ADMIN], **broken), 400) == [], data  # noqa: B023


def test_nobody_is_401(site: Site, routes: list[Route]) -> None:
    assert wrong(routes, lambda route: route.ask(site, None), 401) == []
    bearer = routes[0].ask(site, None).headers["WWW-Authenticate"]
    assert bearer.startswith("Bearer")


def test_a_right_that_a_role_has_not_is_403_on_each_route(
    site: Site, routes: list[Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`MAY` is what decides: who it does not name comes to no route."""
    for right in MAY:
        monkeypatch.setitem(MAY, right, (Role.ADMIN,))  # type: ignore[arg-type]
    for role in (Role.MERCHANT, Role.OPS):
        assert wrong(routes, lambda route: route.ask(site, site.keys[role]), 403) == []  # noqa: B023
    client = site.logged_in(site.keys[Role.OPS])
    assert {client.get(path).status_code for path in ("/alerts", "/triggers", f"/alerts/{site.own}", "/docs/api")} == {
        403
    }


def test_too_many_requests_are_429(tmp_path_factory: pytest.TempPathFactory, routes: list[Route]) -> None:
    """Of a delivery 503: Alertmanager does not come again after a 429. Who guesses keys is no Alertmanager."""
    sites = _site(tmp_path_factory, {"read": "1/hour", "write": "1/hour", "address": "off"})
    limited = next(sites)
    key = limited.keys[Role.ADMIN]
    for method, path in (("GET", "/api/v1/alerts"), ("POST", f"/api/v1/alerts/{limited.own}/acknowledge")):
        limited.client().open(path, method=method, headers={"X-API-Key": key})
    others = [route for route in routes if route.path != RECEIVER]
    assert wrong(others, lambda route: route.ask(limited, key), 429) == []
    deliveries = [route for route in routes if route.path == RECEIVER]
    assert wrong(deliveries, lambda route: route.ask(limited, key), 503) == []
    for _ in range(10):
        limited.client().post(RECEIVER, headers={"X-API-Key": "wrong"})
    assert wrong(routes, lambda route: route.ask(limited, "wrong"), 429) == []
    assert next(sites, None) is None  # and it is closed


def test_an_error_of_ours_is_500_with_the_id_of_its_log_line(
    site: Site, routes: list[Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(Database, "read", broken)
    monkeypatch.setattr(Database, "write", broken)
    reading = [route for route in routes if (route.method, route.path) not in STORELESS]
    with capture_logs() as lines:  # which leaves the tracebacks unrendered, that take a second each
        assert wrong(reading, lambda route: route.ask(site, rows.TOKEN), 500) == []
        answer = reading[-1].ask(site, rows.TOKEN)
    assert answer.get_json(force=True)["error_id"] == lines[-1]["error_id"]
    assert "the inside" not in answer.text


def test_a_database_that_is_away_is_503_and_says_when_to_come_back(
    site: Site, routes: list[Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, ConnectionError())

    monkeypatch.setattr(Database, "read", away)
    monkeypatch.setattr(Database, "write", away)
    reading = [route for route in routes if (route.method, route.path) not in STORELESS]
    assert wrong(reading, lambda route: route.ask(site, rows.TOKEN), 503) == []
    assert {bool(route.ask(site, rows.TOKEN).headers["Retry-After"]) for route in reading} == {True}
