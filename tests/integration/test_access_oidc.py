"""Login of people through an OpenID provider, a real one over http."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oidc_provider
import page_rows as rows
import pytest
import requests
from access_rows import FOREIGN, OWN, Site
from flask.testing import FlaskClient
from joserfc.jwk import OctKey
from oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider
from page_reading import page, token_in

ROLES = {"fraud-admins": "admin", "fraud-ops": "ops", "shops": "merchant"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc_provider.serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Site]:
    settings = {
        "oidc_issuer": provider.url,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_roles": ROLES,
        "public_url": "https://sentinel.example",
    }
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db"
    site = Site(rows.open_store(store), settings=settings)
    yield site
    site.close()


@pytest.fixture(autouse=True)
def _afresh(provider: Provider) -> None:
    provider.claims = {"sub": "u1", "email": "ana@shop.example", "groups": ["fraud-ops"]}
    provider.wrong, provider.alg = {}, "RS256"


def _return(client: FlaskClient, path: str = "/login/oidc") -> str:
    """Begin, be let in by the provider, and where it sends the browser back to: path and query."""
    begun = client.get(path)
    assert begun.status_code == 302
    sent_back = requests.get(begun.location, allow_redirects=False, timeout=30).headers["Location"]
    assert sent_back.startswith("https://sentinel.example/login/oidc/callback?")
    parts = urlsplit(sent_back)
    return f"{parts.path}?{parts.query}"


def test_a_person_logs_in_acts_under_their_name_and_leaves(site: Site, provider: Provider) -> None:
    client = site.client()
    assert "Log in with 127.0.0.1" in client.get("/login").text
    arrived = client.get(_return(client, "/login/oidc?next=/triggers"))
    assert (arrived.status_code, arrived.location) == (303, "/triggers")
    csrf = token_in(page(client, "/alerts"))
    alert_id = site.alert(OWN)
    client.post(f"/alerts/{alert_id}/resolve", data={"note": "done", "confirmed": "yes", "csrf_token": csrf})
    (entry,) = client.get(f"/api/v1/audit?alert_id={alert_id}").get_json()["data"]
    assert (entry["actor"], entry["authenticated_as"]) == ("ana@shop.example", "oidc/u1")
    left = client.post("/logout", data={"csrf_token": csrf})
    assert f"{provider.url}/leave?client_id={CLIENT_ID}" in left.text
    assert client.get("/alerts").status_code == 303


def test_a_merchant_gets_its_accounts_from_the_provider(site: Site, provider: Provider) -> None:
    provider.claims |= {"groups": ["shops", "others"], "account_ids": [OWN]}
    client = site.client()
    assert client.get(_return(client)).status_code == 303
    text = page(client, "/alerts")
    assert f"Merchant {OWN}" in text
    assert f"Merchant {FOREIGN}" not in text


def test_the_role_that_may_do_most_counts(site: Site, provider: Provider) -> None:
    provider.claims |= {"groups": ["shops", "fraud-admins"]}
    client = site.client()
    client.get(_return(client))
    assert client.get("/api/v1/api-keys").status_code == 200


def test_the_provider_is_asked_again_after_half_a_day(site: Site) -> None:
    client = site.client()
    client.get(_return(client))
    assert client.get("/alerts").status_code == 200
    site.clock.now += timedelta(hours=12)
    assert client.get("/alerts").status_code == 303


@pytest.mark.parametrize(
    ("wrong", "alg", "status"),
    [
        ({"nonce": "another"}, "RS256", 401),
        ({"nonce": None}, "RS256", 401),
        ({"aud": "another-client"}, "RS256", 401),
        ({"aud": "another-client", "azp": CLIENT_ID}, "RS256", 401),
        ({"iss": "https://evil.example"}, "RS256", 401),
        ({"aud": [CLIENT_ID, "another-client"]}, "RS256", 401),
        ({"azp": "another-client"}, "RS256", 401),
        ({"exp": int(time.time()) - 3600}, "RS256", 401),
        ({"exp": None}, "RS256", 401),
        ({}, "HS256", 401),
        ({}, "none", 401),
        ({"groups": ["others"]}, "RS256", 403),
        ({"groups": None}, "RS256", 403),
        ({"groups": "shops"}, "RS256", 403),  # a merchant without accounts
    ],
)
def test_who_cannot_prove_it_or_has_no_role_stays_out(
    site: Site, provider: Provider, wrong: dict[str, Any], alg: str, status: int
) -> None:
    provider.wrong, provider.alg = wrong, alg
    client = site.client()
    refused = client.get(_return(client))
    assert refused.status_code == status
    assert 'role="alert"' in refused.text
    assert client.get("/alerts").status_code == 303


def test_an_answer_to_a_login_that_was_begun_elsewhere_is_refused(site: Site) -> None:
    back = _return(site.client())
    client = site.client()
    assert client.get(back).status_code == 401
    assert "not begun here" in client.get(back).text


def test_an_answer_counts_once(site: Site) -> None:
    client = site.client()
    back = _return(client)
    assert client.get(back).status_code == 303
    assert client.get(back).status_code == 401


def test_logins_that_were_left_do_not_fill_the_cookie(site: Site) -> None:
    """Browsers keep 4 kB: a longer one would be dropped, and nobody could log in."""
    client = site.client()
    backs = [_return(client) for _ in range(12)]
    cookie = client.get_cookie("sentinel_session")
    assert cookie
    assert len(cookie.value) < 4000
    assert [client.get(back).status_code for back in (backs[0], backs[-2])] == [401, 303]


def test_a_login_leaves_nothing_of_the_session_before(site: Site) -> None:
    client = site.client()
    before = token_in(client.get("/login").text)
    arrived = client.get(_return(client))
    cookie = arrived.headers["Set-Cookie"]
    assert all(flag in cookie for flag in ("Secure", "HttpOnly", "SameSite=Lax"))
    assert client.post("/logout", data={"csrf_token": before}).status_code == 400
    assert client.get("/alerts").status_code == 200


def test_an_address_that_nobody_proved_is_no_name(site: Site, provider: Provider) -> None:
    provider.claims |= {"email": "boss@shop.example", "email_verified": False, "preferred_username": "ana"}
    client = site.client()
    client.get(_return(client))
    shown = page(client, "/alerts")
    assert "ana" in shown
    assert "boss@shop.example" not in shown


def test_a_provider_that_signs_with_our_secret_alone_lets_nobody_in(tmp_path: Path) -> None:
    with oidc_provider.serving() as provider:
        provider.alg, provider.offered = "HS256", ["HS256"]
        provider.keys = [OctKey.import_key(CLIENT_SECRET).as_dict()]
        settings = {"oidc_issuer": provider.url, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET,
                    "oidc_roles": ROLES, "public_url": "https://sentinel.example"}  # fmt: skip
        site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings=settings)
        provider.claims["groups"] = ["fraud-ops"]
        client = site.client()
        assert client.get(_return(client)).status_code == 401
        site.close()


def test_a_code_that_was_stolen_is_of_no_use(site: Site) -> None:
    """PKCE: the thief has no verifier that fits."""
    stolen = parse_qs(urlsplit(_return(site.client())).query)["code"][0]
    thief = site.client()
    own = _return(thief)
    state = parse_qs(urlsplit(own).query)["state"][0]
    refused = thief.get("/login/oidc/callback", query_string={"code": stolen, "state": state})
    assert refused.status_code == 401


def test_words_of_a_stranger_are_not_shown(site: Site) -> None:
    refused = site.client().get("/login/oidc/callback?error=access_denied&error_description=call+555+now")
    assert refused.status_code == 401
    assert "The provider did not let you in." in refused.text
    assert "555" not in refused.text


def test_a_provider_that_is_away_is_said_plainly(tmp_path: Path) -> None:
    settings = {
        "oidc_issuer": "http://127.0.0.1:9",
        "oidc_client_id": "x",
        "oidc_client_secret": "y",
        "oidc_roles": ROLES,
    }
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings=settings)
    refused = site.client().get("/login/oidc")
    assert refused.status_code == 502
    assert "cannot be reached" in refused.text
    site.close()
