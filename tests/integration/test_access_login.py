"""How a session begins and ends: links, forms, cookies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import page_rows as rows
from access_rows import Site
from flask.testing import FlaskClient
from page_reading import page, shown, token_in

from webhook.domain.access import Role
from webhook.web.rates import ATTEMPTS
from webhook.web.security import SESSION_LIFETIME


def _visitor(client: FlaskClient) -> str:
    """As whom a page shows its reader."""
    return page(client, "/alerts").partition('class="visitor quiet" title="')[2].partition('"')[0]


def test_a_link_logs_nobody_in_as_the_holder_of_a_key(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for victim in (site.client(), site.logged_in(site.keys[Role.OPS])):
        before = victim.get("/alerts").status_code
        for key in (site.keys[Role.MERCHANT], site.keys[Role.ADMIN]):
            refused = victim.get(f"/login?token={key}")
            assert refused.status_code == 401
            assert "This link does not log in" in refused.text
            assert key not in refused.text
        assert victim.get("/alerts").status_code == before
    assert _visitor(victim) == "ops"


def test_the_admins_link_asks_who_is_logged_in_already(make_site: Callable[..., Site]) -> None:
    site = make_site()
    person = site.logged_in(site.keys[Role.OPS])
    asked = person.get(f"/login?token={rows.TOKEN}&next=/triggers")
    assert asked.status_code == 200
    assert "You are logged in as ops" in shown(asked.text)
    assert _visitor(person) == "ops"
    form = {"token": rows.TOKEN, "next": "/triggers"}
    assert person.post("/login", data=form).status_code == 400
    agreed = person.post("/login", data=form | {"csrf_token": token_in(asked.text)})
    assert (agreed.status_code, agreed.location) == (303, "/triggers")
    assert _visitor(person) == "admin"
    assert person.get(f"/login?token={rows.TOKEN}&next=/triggers").location == "/triggers"


def test_who_holds_a_key_cannot_go_on_guessing(make_site: Callable[..., Site]) -> None:
    site = make_site()

    def guess() -> int:
        return site.client().get("/api/v1/alerts", headers={"X-API-Key": "guess"}).status_code

    assert {guess() for _ in range(ATTEMPTS)} == {401}
    site.logged_in(site.keys[Role.MERCHANT])
    site.logged_in(rows.TOKEN)
    assert guess() == 429


def test_a_session_is_new_at_each_login_and_ends_after_its_time(make_site: Callable[..., Site]) -> None:
    site = make_site()
    client = site.client()
    stale = token_in(client.get("/login").text)
    given = client.get_cookie("sentinel_session")
    assert given
    client.post("/login", data={"token": site.keys[Role.OPS], "csrf_token": stale})
    assert client.post("/logout", data={"csrf_token": stale}).status_code == 400
    thief = site.client()
    thief.set_cookie("sentinel_session", given.value)  # planted before the login
    assert thief.get("/alerts").status_code == 303
    for _ in range(7):  # used daily
        assert client.get("/alerts").status_code == 200
        site.clock.now += SESSION_LIFETIME / 7
    site.clock.now += timedelta(seconds=1)
    assert client.get("/alerts").status_code == 303


def test_the_cookie_is_for_https_where_people_are_told_to_come_so(make_site: Callable[..., Site]) -> None:
    def cookie(**settings: Any) -> str:
        return make_site(**settings).client().get(f"/login?token={rows.TOKEN}").headers["Set-Cookie"]

    told = cookie(public_url="https://sentinel.example")
    assert all(flag in told for flag in ("Secure", "HttpOnly", "SameSite=Lax"))
    assert "Secure" not in cookie(public_url="http://127.0.0.1:8080")
