"""Who is let in to the pages, and how they are served."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

import page_rows as rows
import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from page_reading import Elements, page, token_in
from page_rows import TOKEN

from webhook.storage.database import Database
from webhook.web.pages import FRAGMENT_HEADER
from webhook.web.rates import ATTEMPTS

PAGES = ("/", "/alerts", "/triggers", "/alerts/00000000-0000-4000-8000-000000000000", "/live/events")


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """One database: the other makes no difference to who is let in."""
    return f"sqlite:///{tmp_path}/sentinel.db"


# ---- who is let in -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_sees_nothing(stranger: FlaskClient, path: str) -> None:
    response = stranger.get(path)
    if path.startswith("/live"):
        assert response.status_code == 401
    else:
        assert response.status_code == 303
        assert response.location.startswith("/login?next=")


def test_the_link_logs_in_and_leaves_no_token_in_the_address(stranger: FlaskClient) -> None:
    response = stranger.get(f"/login?token={TOKEN}&next=/triggers?account=a")
    assert (response.status_code, response.location) == (303, "/triggers?account=a")
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert stranger.get("/alerts").status_code == 200


def test_the_cookie_is_secure_over_https(stranger: FlaskClient) -> None:
    response = stranger.get(f"/login?token={TOKEN}", base_url="https://sentinel.example")
    assert "Secure" in response.headers["Set-Cookie"]


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example/x", "/\\evil.example"])
def test_login_leads_nowhere_else(stranger: FlaskClient, target: str) -> None:
    response = stranger.get("/login", query_string={"token": TOKEN, "next": target})
    assert response.location == "/alerts"


def test_the_login_form_works_and_remembers_where_one_wanted_to_go(stranger: FlaskClient) -> None:
    form = stranger.get("/login?next=/triggers")
    assert stranger.post("/login", data={"token": TOKEN}).status_code == 400  # without its CSRF token
    data = {"csrf_token": token_in(form.text), "next": "/triggers"}
    wrong = stranger.post("/login", data=data | {"token": "wrong"})
    assert wrong.status_code == 401
    assert "That token or key is not right." in wrong.text
    assert stranger.post("/login", data=data | {"token": TOKEN}).location == "/triggers"


def test_a_stranger_cannot_fill_the_disk(stranger: FlaskClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    body = head + b"x" * 100_000 + b"\r\n--b--\r\n"
    refused = stranger.post("/login", data=body, content_type="multipart/form-data; boundary=b")
    assert refused.status_code == 413
    assert "more text than fits" in refused.text


def test_guessing_is_slowed_down(stranger: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(ATTEMPTS):
        assert stranger.get("/login?token=guess").status_code == 401
    refused = stranger.get("/login?token=guess")
    assert refused.status_code == 429
    assert 290 < int(refused.headers["Retry-After"]) <= 300
    assert stranger.get("/api/v1/alerts", headers={"Authorization": "Bearer guess"}).status_code == 429
    later = time.time() + 300
    monkeypatch.setattr("time.time", lambda: later)
    assert stranger.get("/login?token=guess").status_code == 401


@pytest.mark.parametrize("program", [True, False])
def test_one_who_guesses_locks_nobody_out(stranger: FlaskClient, *, program: bool) -> None:
    for _ in range(ATTEMPTS + 1):
        stranger.get("/login?token=guess")
    if program:
        assert stranger.get("/api/v1/alerts", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    else:
        assert stranger.get(f"/login?token={TOKEN}").status_code == 303


def test_a_new_token_ends_every_session(database: Database, client: FlaskClient) -> None:
    cookie = client.get_cookie("sentinel_session")
    assert cookie
    app, _ = rows.make_app(database, token="another-token")
    other = app.test_client()
    other.set_cookie("sentinel_session", cookie.value)
    assert other.get("/alerts").status_code == 303
    app, _ = rows.make_app(database, token="another-token", secret_key=client.application.secret_key)
    other = app.test_client()
    other.set_cookie("sentinel_session", cookie.value)
    assert other.get("/alerts").status_code == 303


def test_another_process_accepts_the_same_session(database: Database, client: FlaskClient) -> None:
    cookie = client.get_cookie("sentinel_session")
    assert cookie
    app, _ = rows.make_app(database)
    other = app.test_client()
    other.set_cookie("sentinel_session", cookie.value)
    assert other.get("/alerts").status_code == 200


def test_logging_out_needs_the_form_and_ends_the_session(client: FlaskClient) -> None:
    assert client.post("/logout").status_code == 400
    csrf = token_in(page(client, "/alerts"))
    assert client.post("/logout", data={"csrf_token": csrf}).location == "/login"
    assert client.get("/alerts").status_code == 303


def test_an_answer_under_way_undoes_nothing(client: FlaskClient, database: Database) -> None:
    """The browser keeps the cookie that comes last: a page that only shows must not bring back an older session."""
    alert = f"/alerts/{rows.insert_alert(database)}"
    token = token_in(client.get(alert).text)
    late = client.get(alert, headers={FRAGMENT_HEADER: "1"})
    done = client.post(f"{alert}/acknowledge", data={"csrf_token": token})
    assert "Set-Cookie" in done.headers
    assert "Set-Cookie" not in late.headers
    assert "Acknowledged" in client.get(alert).text
    assert "Set-Cookie" not in client.get(alert).headers


def test_a_form_from_elsewhere_or_long_ago_changes_nothing(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    response = client.post(f"/alerts/{alert_id}/resolve", data={"note": "x", "confirmed": "yes", "csrf_token": "old"})
    assert response.status_code == 400
    assert "This form had expired" in response.text
    assert f'href="/alerts/{alert_id}"' in response.text
    assert client.application.extensions["actions"].asked == []


def test_a_form_sent_after_logging_out_leads_back_to_its_alert(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    response = stranger.post(f"/alerts/{alert_id}/resolve", data={"note": "x"})
    assert response.location == f"/login?next=/alerts/{alert_id}"


# ---- how they are served -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/alerts", "/login", "/nowhere", "/api/v1/alerts", "/assets/style.css"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    with client.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_pages_are_not_kept_and_assets_are(client: FlaskClient) -> None:
    response = client.get("/alerts")
    assert response.headers["Cache-Control"] == "no-store"
    for address in re.findall(r'(?:href|src)="(/assets/[^"]+)"', response.text):
        with client.get(html.unescape(address)) as asset:
            assert asset.status_code == 200
            assert "immutable" in asset.headers["Cache-Control"]


def test_a_fragment_is_the_page_without_its_frame(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    for path in ("/alerts", f"/alerts/{alert_id}", "/triggers"):
        whole = client.get(path).text
        part = client.get(path, headers={FRAGMENT_HEADER: "1"}).text
        regions = [given["id"] for _, given in Elements(whole).found if "data-region" in given]
        assert regions == [given["id"] for _, given in Elements(part).found if "data-region" in given]
        assert '<header class="top"' not in part
        assert "<title>" in part


def test_a_database_that_is_away_is_said_plainly(client: FlaskClient, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE alert_dynamic RENAME TO elsewhere"))
    assert "The database cannot be reached" in page(client, "/alerts", 503)
    answer = client.get("/api/v1/alerts?status=ACTIVE")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.headers["Retry-After"]
