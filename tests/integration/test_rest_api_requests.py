"""What the rest_api source sends: bodies, headers, times, accounts and credentials, and to whom."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from rest_sources import NOW, source
from servers_http import Answer, Api, Seen, api_server

from exporter.errors import BadAnswer, CollectError, Denied, FieldMissing, SecretMissing, Unauthorized

ROW = {"account_id": "a", "value": 1.5}
GOOD = Answer(body={"data": [ROW]})
SECRET = "s3cret-that-must-not-leak"


@pytest.fixture
def api() -> Iterator[Api]:
    with api_server() as api:
        api.answer = lambda _: GOOD
        yield api


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SECRET", SECRET)
    monkeypatch.setenv("API_USER", "käthe")


def test_a_body_template_is_posted_with_values_of_their_types(api: Api) -> None:
    text = f"""
        type: rest_api
        endpoint: {api.url}/query?tenant=1
        method: POST
        headers: {{X-Tenant: fraud, X-Version: 2}}
        params: {{dry: false}}
        time_window: {{length: 5m, lag: 30s, format: unix_ms}}
        accounts: {{type: whitelist, whitelist: [a, b]}}
        body:
          query: "query($from: Long) {{ rates }}"
          note: "for ${{API_SECRET}} from {{time_from}} of {{account_ids}}"
          variables: {{from: "{{time_from}}", until: "{{time_to}}", accounts: "{{account_ids}}", deep: [1, null, true]}}
    """
    with source(text) as made:
        assert made.rows() == [(1.5, "a")]
    (seen,) = api.requests
    since, until = 1763978370000, 1763978670000
    assert (seen.method, seen.path, seen.params) == ("POST", "/query", {"tenant": "1", "dry": "false"})
    assert seen.headers["Content-Type"] == "application/json"
    assert (seen.headers["X-Tenant"], seen.headers["X-Version"]) == ("fraud", "2")
    assert seen.json == {
        "query": "query($from: Long) { rates }",
        "note": f"for {SECRET} from {since} of a,b",
        "variables": {"from": since, "until": until, "accounts": ["a", "b"], "deep": [1, None, True]},
    }


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("auth", "header", "value", "named"),
    [
        ("type: bearer_token, token: '${API_SECRET}'", "Authorization", f"Bearer {SECRET}", "the token from ${…}"),
        ("type: basic, username: anna, password_env: API_SECRET", "Authorization", basic("anna", SECRET),
         "user anna with the password from API_SECRET"),
        ("type: basic, username_env: API_USER, password: '${API_SECRET}'", "Authorization", basic("käthe", SECRET),
         "user käthe"),
        ("type: api_key, key_env: API_SECRET", "X-API-Key", SECRET, "the key from API_SECRET"),
        ("type: api_key, name: apikey, key: '${API_SECRET}'", "apikey", SECRET, "the key from ${…}"),
    ],
)  # fmt: skip
def test_credentials_are_sent_and_their_refusal_stops_the_source(
    api: Api, auth: str, header: str, value: str, named: str
) -> None:
    with source(f"type: rest_api\nendpoint: {api.url}/x\nauth: {{{auth}}}") as made:
        made.collect()
        assert api.requests[0].headers[header] == value
        api.answer = lambda seen: Answer(401, body=f"no: {seen.headers[header]}")
        with pytest.raises(Unauthorized, match="401 Unauthorized") as refused:
            made.collect()
        assert named in str(refused.value)
        assert SECRET not in str(refused.value)
        assert len(api.requests) == 2
        api.answer = lambda _: Answer(403)
        with pytest.raises(Denied, match="may not read this"):
            made.collect()


def test_no_credentials_are_taken_from_a_netrc_file(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with source(f"type: rest_api\nendpoint: {api.url}/x") as made:
        made.collect()
        assert "Authorization" not in api.requests[0].headers
        api.answer = lambda _: Answer(401)
        with pytest.raises(Unauthorized, match="it wants credentials: set auth"):
            made.collect()


@pytest.mark.parametrize("value", ["", "two words", "ünlike"])
def test_an_unusable_key_is_named_before_it_is_sent(api: Api, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("API_SECRET", value)
    with (
        source(f"type: rest_api\nendpoint: {api.url}/x\nauth: {{type: api_key, key_env: API_SECRET}}") as made,
        pytest.raises(SecretMissing, match="the key from API_SECRET is empty or has characters"),
    ):
        made.collect()
    assert api.requests == []


def test_a_header_with_a_line_end_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SECRET", "a\r\nX-Admin: 1")
    with (
        source(f"type: rest_api\nendpoint: {api.url}/x\nheaders: {{X-Tenant: '${{API_SECRET}}'}}") as made,
        pytest.raises(SecretMissing, match="the header X-Tenant has characters"),
    ):
        made.collect()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TokenServer:
    """Gives numbered tokens; the API takes those in `good`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.given = 0
        self.good: Callable[[str], bool] = lambda _: True
        self.answer: Callable[[Seen], Answer | None] = lambda _: None
        api.answer = self

    def __call__(self, seen: Seen) -> Answer:
        if seen.path != "/token":
            token = seen.headers["Authorization"].removeprefix("Bearer ")
            return GOOD if self.good(token) else Answer(401)
        self.given += 1
        answer = {"access_token": f"tok-{self.given}", "token_type": "bearer", "expires_in": 300}
        return self.answer(seen) or Answer(body=answer)

    def asked(self) -> list[Seen]:
        return [seen for seen in self.api.requests if seen.path == "/token"]


def oauth2(api: Api, more: str = "") -> str:
    return f"""
        type: rest_api
        endpoint: {api.url}/x
        auth:
          type: oauth2
          token_url: {api.url}/token
          client_id: sentinel
          client_secret_env: API_SECRET
          scopes: [metrics.read, rates]
          {more}
    """


def test_an_oauth2_token_is_kept_until_it_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, clock = TokenServer(api), Clock()
    monkeypatch.setenv("API_SECRET", SECRET + "/+ü")
    with source(oauth2(api, "token_params: {audience: rates}")) as made:
        for now in (1000.0, 1200.0, 1271.0):
            clock.now = now
            made.collect(deadline=now + 60, clock=clock)
        assert [seen.headers.get("Authorization") for seen in api.requests if seen.path == "/x"] == [
            "Bearer tok-1", "Bearer tok-1", "Bearer tok-2"
        ]  # fmt: skip
        monkeypatch.setenv("API_SECRET", "rotated")
        made.collect(deadline=1271 + 60, clock=clock)
        assert tokens.given == 3
        assert made.secrets.redact("tok-3") == "***"
    first = tokens.asked()[0]
    assert first.form == {"grant_type": "client_credentials", "scope": "metrics.read rates", "audience": "rates"}
    assert first.headers["Authorization"] == basic("sentinel", "s3cret-that-must-not-leak%2F%2B%C3%BC")


def test_a_token_that_was_taken_back_is_fetched_once_more(api: Api) -> None:
    tokens = TokenServer(api)
    with source(oauth2(api)) as made:
        made.collect()
        tokens.good = lambda token: token == "tok-2"
        assert made.rows() == [(1.5, "a")]
        tokens.good = lambda _: False
        with pytest.raises(Unauthorized, match=r"the token from http://127.0.0.1:.*/token was refused"):
            made.collect()
        assert tokens.given == 3


def test_the_client_can_be_named_in_the_body(api: Api) -> None:
    tokens = TokenServer(api)
    with source(oauth2(api, "client_in: body")) as made:
        made.collect()
        (seen,) = tokens.asked()
        assert (seen.form["client_id"], seen.form["client_secret"]) == ("sentinel", SECRET)
        assert "Authorization" not in seen.headers


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(401, body={"error": "invalid_client", "error_description": f"no {SECRET}"}), Unauthorized,
         r"401 Unauthorized \(invalid_client: no \*\*\*\): client sentinel with the secret from API_SECRET was"),
        (Answer(400, body={"error": "invalid_scope"}), Unauthorized, r"400 Bad Request \(invalid_scope\)"),
        (Answer(404, body="nothing"), BadAnswer, "is the endpoint right"),
        (Answer(body={"token": "x"}), BadAnswer, "no access_token: is token_url right"),
        (Answer(body={"access_token": "x", "token_type": "mac"}), BadAnswer, "'mac': only bearer"),
        (Answer(body="<html>"), BadAnswer, "HTML, not JSON"),
    ],
)  # fmt: skip
def test_a_token_server_that_gives_no_token_is_named(
    api: Api, answer: Answer, kind: type[CollectError], words: str
) -> None:
    TokenServer(api).answer = lambda _: answer
    with source(oauth2(api)) as made, pytest.raises(kind, match=words) as failed:
        made.collect()
    assert SECRET not in str(failed.value)


def test_a_window_begins_where_the_last_one_that_is_served_ended(api: Api) -> None:
    text = f"""
        type: rest_api
        endpoint: {api.url}/x
        time_window: {{length: 5m, start: last_run, longest: 1h, lag: 10s}}
        params: {{from: "{{time_from}}", span: "{{time_from}}/{{time_to}}"}}
    """
    with source(text) as made:
        made.collect()
        last = NOW - timedelta(minutes=17, seconds=3)
        made.collect(last_success=last)
        outage = made.collection(last_success=NOW - timedelta(hours=3))
        made.collect(outage)
    assert [seen.params["span"] for seen in api.requests] == [
        "2025-11-24T09:59:50Z/2025-11-24T10:04:50Z",
        "2025-11-24T09:47:47Z/2025-11-24T10:04:50Z",
        "2025-11-24T09:04:50Z/2025-11-24T10:04:50Z",
    ]
    (warning,) = outage.warnings
    assert (warning.reason, warning.detail) == (
        "window_cut", "time_window: 7200 s before longest (3600 s) were not asked for"
    )  # fmt: skip


def test_a_long_whitelist_is_asked_for_in_batches(api: Api) -> None:
    def answer(seen: Seen) -> Answer:
        ids = [*seen.params["account_ids"].split(","), "uninvited"]
        return Answer(body={"data": [{"account_id": name, "value": 1} for name in ids]})

    api.answer = answer
    text = f"""
        type: rest_api
        endpoint: {api.url}/x
        params: {{account_ids: "{{account_ids}}"}}
        accounts: {{type: whitelist, whitelist: [acc_1, acc_2, 3, acc_1, acc_4, "5"], batch: 2}}
    """
    with source(text) as made:
        assert [name for _, name in made.rows()] == ["acc_1", "acc_2", "3", "acc_4", "5"]
    assert [seen.params["account_ids"] for seen in api.requests] == ["acc_1,acc_2", "3,acc_4", "5"]


def test_a_blacklist_leaves_rows_out_and_asks_for_all(api: Api) -> None:
    rows = [{"account_id": name, "value": 1} for name in ("a", "b", 7, None, "c")]
    api.answer = lambda _: Answer(body={"data": rows})
    text = f"""
        type: rest_api
        endpoint: {api.url}/x
        params: {{account_ids: "{{account_ids}}", n: 1}}
        accounts: {{type: blacklist, blacklist: [b, 7]}}
    """
    with source(text) as made:
        assert [name for _, name in made.rows()] == ["a", None, "c"]
        assert api.requests[0].params == {"n": "1"}
        rows[:] = [{"merchant": "b", "value": 1}]
        with pytest.raises(FieldMissing, match="no field 'account_id'"):
            made.collect()
