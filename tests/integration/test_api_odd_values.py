"""Odd values in query strings, headers and bodies: refused or taken, never an error of ours, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import page_rows as rows
import pytest
from access_rows import OWN, Site
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DataError

from webhook.storage import queries

HEX = "0123456789abcdef" * 2
ODD = (
    "a\0b", " ", "-1", "0", "1.5", "NaN", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 20, "9" * 300, "%", "\\", "'",
    "\N{PILE OF POO}", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30",
    "00000000-0000-0000-0000-000000000000", f"9999999999999999.{HEX}", f"9999999999999999.1.{HEX}",
    f"1.9999999999999999.{HEX}",
)  # fmt: skip
SORTS = ("triggered_at", "severity", "last_triggered_at", "updated_at", "occurrence_count")
NEEDED = {"merchant_id": OWN, "alert_type": "CARD_TESTING"}


@pytest.fixture
def site(store_url: str) -> Iterator[Site]:
    limits = {f"rate_limit_{of}": "off" for of in ("read", "write", "address")}
    site = Site(rows.open_store(store_url), settings=limits | {"prometheus_url": "http://127.0.0.1:9"})
    rows.insert_trigger(site.database, site.own, account_id=OWN)
    rows.insert_notification(site.database, site.own)
    yield site
    site.close()
    site.database.close()


def asked(site: Site, method: str, path: str, query: dict[str, str], **sent: Any) -> int:
    response = site.client().open(
        path.replace("{alert_id}", site.own).replace("{image_format}", "png"),
        method=method,
        query_string=query,
        headers={"Authorization": f"Bearer {rows.TOKEN}"} | sent.pop("headers", {}),
        **sent,
    )
    response.close()
    return response.status_code


def parameters(site: Site) -> list[tuple[str, str, str, dict[str, str]]]:
    """Method, path and name of each query parameter, and what has to be said besides."""
    found = []
    for path, operations in site.app.api_doc["paths"].items():  # type: ignore[attr-defined]
        for method, operation in operations.items():
            given = [part for part in operation.get("parameters", []) if part["in"] == "query"]
            needed = {part["name"]: NEEDED[part["name"]] for part in given if part["required"]}
            found += [(method.upper(), path, part["name"], needed) for part in given if method in ("get", "delete")]
    return found


def test_no_value_of_a_parameter_is_an_error_of_ours(site: Site) -> None:
    known = parameters(site)
    assert len(known) > 50
    wrong = []
    for method, path, name, needed in known:
        for odd in ODD:
            for sort in SORTS if (path, name) == ("/api/v1/alerts", "cursor") else (None,):
                query = needed | {name: odd} | ({"sort_by": sort} if sort else {})
                status = asked(site, method, path, query)
                if status not in (200, 400, 404, 409, 412, 428) and not (path.endswith("}") and status == 503):
                    wrong.append(f"{method} {path} {query}: {status}")
    assert wrong == []


def test_a_place_beyond_all_counts_is_one_and_a_nul_in_a_search_is_refused_by_its_name(site: Site) -> None:
    for place in (f"9999999999999999.1.{HEX}", f"2147483648.1.{HEX}"):
        assert asked(site, "GET", "/api/v1/alerts", {"sort_by": "occurrence_count", "cursor": place}) == 200
    for method, path, name, needed in parameters(site):
        if name in ("search", "label", "reason", "actor", "channel", "metric"):
            answer = site.client().get(
                path.replace("{alert_id}", site.own).replace("{image_format}", "png"),
                query_string=needed | {name: "a\0b"},
                headers={"Authorization": f"Bearer {rows.TOKEN}"},
            )
            assert [error["field"] for error in answer.get_json(force=True)["errors"]] == [name], (method, path)


@settings(max_examples=60, derandomize=True, database=None)
@given(data=st.data())
def _any_text_is_taken_or_refused(site: Site, data: st.DataObject) -> None:
    method, path, name, needed = data.draw(st.sampled_from(parameters(site)))
    value = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
    status = asked(site, method, path, needed | {name: value})
    assert status < 500 or "chart" in path, (path, name)


def test_any_text_is_taken_or_refused(site: Site) -> None:
    _any_text_is_taken_or_refused(site)


def test_an_odd_version_in_a_header_matches_nothing(site: Site) -> None:
    for tag in ("9" * 30, '"9999999999"', '"\u00b2"', "W/", '"-1"', ",,", '"', ""):
        for action in ("acknowledge", "snooze"):
            path = f"/api/v1/alerts/{{alert_id}}/{action}"
            assert asked(site, "POST", path, {}, headers={"If-Match": tag}) == 412, tag


def test_numbers_beyond_the_databases_are_refused(site: Site) -> None:
    for number in (2**31, 2**63, 10**400, -1, 1.5):
        body = {"version": number}
        assert asked(site, "POST", "/api/v1/alerts/{alert_id}/acknowledge", {}, json=body) == 400, number


def test_what_only_the_database_finds_odd_is_a_400_and_nothing_to_try_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line, for what no check has thought of."""

    def refused(*_: object, **__: object) -> None:
        raise DataError("SELECT", {}, ValueError("out of range"))

    monkeypatch.setattr(queries, "list_alerts", refused)
    monkeypatch.setattr("webhook.storage.acting.lock_sessions", refused)
    monkeypatch.setattr("webhook.storage.store.record", refused)
    assert asked(site, "GET", "/api/v1/alerts", {}) == 400
    assert asked(site, "POST", "/api/v1/alerts/{alert_id}/acknowledge", {}) == 400
    metric = {"metric_name": "block_rate", "metric_value": 0.5, "threshold": 0.3}
    body = {"merchant_id": OWN, "alert_type": "VELOCITY_ATTACK", "metrics": [metric]}
    assert asked(site, "POST", "/api/v1/alerts/metrics", {}, json=body) == 400
    payload = {"alerts": [{"labels": {"account_id": OWN}, "startsAt": rows.NOW.isoformat()}]}
    assert asked(site, "POST", "/api/v1/alerts/prometheus/webhook", {}, json=payload) == 400
