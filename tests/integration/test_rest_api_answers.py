"""What the rest_api source makes of answers: pages, rows of nested answers, unchanged and broken ones."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from exporter_parts import running
from rest_sources import at_once, source
from servers_http import Answer, Api, Seen, api_server

from exporter.errors import BadAnswer, BudgetExceeded, CollectError, TimedOut, Unreachable

__all__ = ["at_once"]  # a fixture
pytestmark = pytest.mark.usefixtures("at_once")
SECRET = "s3cret-that-must-not-leak"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("API_SECRET", SECRET)
    with api_server() as api:
        yield api


def rest(api: Api, more: str) -> str:
    return f"type: rest_api\nendpoint: {api.url}/x?kind=fraud\nauth: {{type: api_key, key_env: API_SECRET}}\n{more}"


def row(number: int) -> dict[str, Any]:
    return {"account_id": f"acc_{number}", "value": number}


ROWS = [row(number) for number in range(5)]
ALL = [(number, f"acc_{number}") for number in range(5)]


class Paged:
    """Five rows, two a page, told in every way that there is."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.per_page = 2
        api.answer = self

    def __call__(self, seen: Seen) -> Answer:
        asked = seen.params | (seen.json.get("page", {}) if seen.content else {})
        first = int(asked.get("offset") or asked.get("after") or (int(asked.get("page_no", 1)) - 1) * self.per_page)
        end = first + self.per_page
        more = end < len(ROWS)
        body = {
            "data": ROWS[first:end],
            "total": len(ROWS),
            "more": more,
            "next": {"cursor": str(end) if more else "", "url": f"/x?after={end}" if more else None},
        }
        links = (
            f'<{self.api.url}/x?after={end}&a=b>; rel="next", </x?after=0>; rel="first"' if more else "</x>; rel=prev"
        )
        return Answer(body=body, headers={"Link": links})


@pytest.mark.parametrize(
    ("pagination", "asked"),
    [
        ("{type: page, page_param: page_no, has_more: more, size: 2}", ["1", "2", "3"]),
        ("{type: page, page_param: page_no, has_more: null, size_param: null}", ["1", "2", "3", "4"]),
        ("{type: offset, limit: 50}", ["0", "2", "4", "5"]),
        ("{type: offset, limit: 50, total: total}", ["0", "2", "4"]),
        ("{type: offset, limit: 50, has_more: more}", ["0", "2", "4"]),
        ("{type: cursor, next: next.cursor, cursor_param: after}", [None, "2", "4"]),
        ("{type: cursor, next: next.cursor, cursor_param: after, has_more: more, size_param: n}", [None, "2", "4"]),
        ("{type: link}", [None, "2", "4"]),
        ("{type: next_url, next: next.url}", [None, "2", "4"]),
    ],
)  # fmt: skip
def test_pages_are_followed_to_the_last(api: Api, pagination: str, asked: list[str | None]) -> None:
    Paged(api)
    with source(rest(api, f"params: {{q: a b}}\npagination: {pagination}")) as made:
        assert made.rows() == ALL
    keys = {"page_no", "offset", "after"}
    assert [next((seen.params[key] for key in keys & seen.params.keys()), None) for seen in api.requests] == asked
    assert all(seen.headers["X-API-Key"] == SECRET for seen in api.requests)
    assert (api.requests[0].params["kind"], api.requests[0].params["q"]) == ("fraud", "a b")


def test_page_parameters_go_into_the_body_too(api: Api) -> None:
    Paged(api)
    paging = "{type: cursor, into: body, next: next.cursor, cursor_param: page.after, size_param: page.size, size: 2}"
    with source(rest(api, f"method: POST\nbody: {{query: all, page: {{sort: up}}}}\npagination: {paging}")) as made:
        assert made.rows() == ALL
    assert [seen.json for seen in api.requests] == [
        {"query": "all", "page": {"sort": "up", "size": 2}},
        {"query": "all", "page": {"sort": "up", "size": 2, "after": "2"}},
        {"query": "all", "page": {"sort": "up", "size": 2, "after": "4"}},
    ]


def test_the_next_page_on_another_server_is_not_asked_for(api: Api) -> None:
    with api_server() as other:
        for url in (f"{other.url}/x?after=2", "//evil.example/x", "https://127.0.0.1/x", "file:///etc/passwd"):
            api.answer = lambda _, url=url: Answer(  # type: ignore[misc]
                body={"data": [row(1)], "next": url}, headers={"Link": f"<{url}>; rel=next"}
            )
            for paging in ("{type: link}", "{type: next_url, next: next}"):
                with (
                    source(rest(api, f"pagination: {paging}")) as made,
                    pytest.raises(BadAnswer, match=r"on another server|is no web address"),
                ):
                    made.collect()
        assert other.requests == []


@pytest.mark.parametrize(
    ("pagination", "body", "words"),
    [
        ("{type: page, has_more: null}", {"data": [row(1)]}, "page 2 is the same as page 1: does the server know"),
        ("{type: offset}", {"data": [row(1)]}, "page 2 is the same as page 1"),
        ("{type: cursor, next: c}", {"data": [row(1)], "c": "one"}, "page 2 is the same as page 1"),
        ("{type: next_url, next: n}", {"data": [], "n": "/x?a"}, "in a circle: the URL of the next page was already"),
        ("{type: cursor, next: c}", {"data": [], "c": "one"}, "the cursor after a page is that of the page itself"),
        ("{type: cursor, next: c}", {"data": [], "c": [1]}, "next `c` is a list of 1, not text or a number"),
        ("{type: next_url, next: n}", {"data": [], "n": 7}, "next `n` is a number, not a URL"),
        ("{type: offset, total: t}", {"data": [row(1)]}, "no number at `t`"),
    ],
)  # fmt: skip
def test_pages_that_lead_nowhere_are_named(api: Api, pagination: str, body: object, words: str) -> None:
    api.answer = lambda _: Answer(body=body)
    with source(rest(api, f"pagination: {pagination}")) as made, pytest.raises(BadAnswer, match=words):
        made.collect()
    assert len(api.requests) <= 2


def test_a_longer_circle_of_cursors_is_noticed(api: Api) -> None:
    following = {None: "a", "a": "b", "b": "c", "c": "a"}

    def answer(seen: Seen) -> Answer:
        cursor = following[seen.params.get("cursor")]
        return Answer(body={"data": [row(len(api.requests))], "c": cursor})

    api.answer = answer
    with (
        source(rest(api, "pagination: {type: cursor, next: c}")) as made,
        pytest.raises(BadAnswer, match="in a circle: the cursor of the next page"),
    ):
        made.collect()
    assert len(api.requests) == 4


def test_endless_pages_end_at_their_cap_and_at_the_timeout(api: Api) -> None:
    api.answer = lambda _: Answer(body={"data": [row(len(api.requests))]})
    with source(rest(api, "pagination: {type: offset, max_pages: 3}")) as made:
        with pytest.raises(BudgetExceeded, match=r"more than max_pages \(3\) pages"):
            made.collect()
        assert len(api.requests) == 3
    with source(rest(api, "pagination: {type: offset, max_pages: 1000}")) as made, pytest.raises(TimedOut):
        made.collect(deadline=6000, clock=lambda: 100 * len(api.requests))
    assert len(api.requests) == 60


def test_rows_beyond_the_budget_are_not_asked_for(api: Api) -> None:
    Paged(api)
    with source(rest(api, "max_rows: 3\nover_budget: truncate\npagination: {type: link}")) as made:
        assert made.rows() == ALL[:3]
    assert len(api.requests) == 2


NESTED = {
    "as_of": "2025-11-24",
    "regions": {
        "eu": {"merchants": [
            {"id": "m1", "title": "Café", "limits": [10, 20], "terminals": [{"value": 1}, {"value": 2}]},
            {"id": "m2", "title": "Bar", "limits": [30, 40], "terminals": []},
        ]},
        "ap": {"merchants": [{"id": "m3", "title": "Deli", "limits": [50, 60], "terminals": [{"value": 3}]}]},
    },
}  # fmt: skip


def test_rows_of_a_nested_answer_know_what_they_stand_in(api: Api) -> None:
    api.answer = lambda _: Answer(body=NESTED)
    steps = """
rows:
  - {path: "@", name: answer}
  - {path: regions, key_as: region}
  - {path: merchants, name: merchant}
  - {path: terminals, index_as: terminal}
"""
    metrics = """[{source_field: value, prometheus_name: m, labels: {region: region, title: merchant.title,
      terminal: terminal, day: answer.as_of, low: merchant.limits.0}}]"""
    with source(rest(api, steps), metrics) as made:
        assert made.rows() == [
            (1, "eu", "Café", 0, "2025-11-24", 10),
            (2, "eu", "Café", 1, "2025-11-24", 10),
            (3, "ap", "Deli", 0, "2025-11-24", 50),
        ]


def test_an_unchanged_answer_is_served_on(api: Api) -> None:
    etags = ['"v1"']

    def answer(seen: Seen) -> Answer:
        if seen.headers.get("If-None-Match") == etags[0]:
            return Answer(304, headers={"ETag": etags[0]})
        return Answer(body={"data": [row(len(api.requests))]}, headers={"ETag": etags[0]})

    api.answer = answer
    config = f"""
- name: source
  type: rest_api
  endpoint: {api.url}/x
  interval: 200ms
  max_staleness: 1h
  metrics: [{{source_field: value, prometheus_name: m, labels: [account_id]}}]
"""
    with running(config) as exporter:
        exporter.wait(lambda _: len(api.requests) >= 3, "asked again")
        scraped = exporter.scrape()
        assert scraped.values("m", "account_id") == {"acc_1": 1}
        assert scraped.value("sentinel_source_up", source="source") == 1
        assert [seen.headers.get("If-None-Match") for seen in api.requests[:3]] == [None, '"v1"', '"v1"']
        etags[0] = '"v2"'
        exporter.wait(lambda s: s.values("m", "account_id").keys() > set() and "acc_1" not in s.text, "changed")


def test_only_what_is_served_is_asked_about(api: Api) -> None:
    api.answer = lambda _: Answer(body={"data": [row(1)]}, headers={"Last-Modified": "Mon, 24 Nov 2025 10:00:00 GMT"})
    with source(rest(api, "params: {n: '${N:-1}'}")) as made:
        first = made.collection()
        made.collect(first)
        assert isinstance(first.version, str)
        made.collect(served=first.version)
        assert api.requests[-1].headers["If-Modified-Since"] == "Mon, 24 Nov 2025 10:00:00 GMT"
        made.collect(served=None)
        made.collect(served="of another kind")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("N", "2")
            made.collect(served=first.version)
        assert all("If-Modified-Since" not in seen.headers for seen in api.requests[2:])
    api.answer = lambda _: Answer(304)
    with source(rest(api, "")) as made, pytest.raises(BadAnswer, match="but was not asked"):
        made.collect()


@pytest.mark.parametrize(
    "more",
    [
        "pagination: {type: link}",
        "method: POST",
        "time_window: 5m\nparams: {from: '{time_from}'}",
        "accounts: {type: whitelist, whitelist: [acc_1]}\nparams: {a: '{account_ids}'}",
    ],
)
def test_what_cannot_stay_the_same_has_no_version(api: Api, more: str) -> None:
    api.answer = lambda _: Answer(body={"data": [row(1)]}, headers={"ETag": '"v1"'})
    with source(rest(api, more)) as made:
        collection = made.collection()
        made.collect(collection)
        assert collection.version is None


def raw(head: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n".encode() + body


def compressed(content: bytes) -> bytes:
    return gzip.compress(content)


DEEP = '{"data": [{"account_id": "a", "value": ' + '{"a":' * 500 + "1" + "}" * 500 + "}]}"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (raw("Content-Length: 2000000000\r\n", b"{"), BudgetExceeded, "larger than max_response_bytes"),
        (raw("Content-Encoding: gzip\r\nConnection: close\r\n", compressed(json.dumps([ROWS] * 9999).encode())[:3000]),
         BadAnswer, "no JSON .*It starts with .* and breaks off after .* from 3000 bytes of gzip: were they cut"),
        (raw("Content-Encoding: gzip\r\nConnection: close\r\n", compressed(b"{}")[:9]),
         BadAnswer, "It is empty.* unpacked from 9 bytes of gzip"),
        (raw("Connection: close\r\n", b'{"data": [{"account_id": "a'), BadAnswer, "breaks off after 27 bytes"),
        (Answer(body="[" * 100_000), BadAnswer, "nested too deeply"),
        (Answer(body=DEEP.replace('"value": {', '"value": 1, "b": {', 1)), None, ""),
        (Answer(body='{"data": [{"account_id": "a", "value": NaN}]}'), None, ""),
        (Answer(body='{"data": [{"account_id": "a", "value": ' + "9" * 5000 + "}]}"), BadAnswer, "no JSON"),
        (Answer(body=b'\xff\xfe{"data"'), BadAnswer, "no JSON"),
        (Answer(204), BadAnswer, "It is empty"),
        (Answer(400, body={"error": f"bad {SECRET}"}), BadAnswer, r"400 Bad Request: is the endpoint right.*\*\*\*"),
        (Answer(301, headers={"Location": "/x"}), BadAnswer, "Exceeded 5 redirects"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable, "SSH-2.0-OpenSSH_9.2"),
    ],
)  # fmt: skip
def test_broken_answers_are_named(
    api: Api, answer: Answer | bytes, kind: type[CollectError] | None, words: str
) -> None:
    api.answer = lambda _: answer
    with source(rest(api, "max_response_bytes: 1000000")) as made:
        if kind is None:
            made.collect()
            return
        with pytest.raises(kind, match=words) as failed:
            made.collect()
    assert "\n" not in str(failed.value)
    assert SECRET not in str(failed.value)
    assert len(str(failed.value)) < 400


def test_a_held_post_is_cancelled(api: Api) -> None:
    api.answer = lambda _: Answer(held=threading.Event())
    with source(rest(api, "method: POST\nbody: {a: 1}")) as made, pytest.raises(TimedOut):
        made.cancelled_once(lambda: api.requests)
