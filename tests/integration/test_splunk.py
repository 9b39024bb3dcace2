"""The splunk source over a server that answers as Splunk documents its search export, well and badly."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from exporter_parts import running
from rest_sources import at_once, source
from servers_http import Answer, Api, api_server

from exporter.errors import (
    BadAnswer,
    BudgetExceeded,
    CollectError,
    Denied,
    FieldMissing,
    QueryRefused,
    ServerFailed,
    TimedOut,
    Unauthorized,
    Unreachable,
)

__all__ = ["at_once"]  # a fixture
pytestmark = pytest.mark.usefixtures("at_once")
SECRET = "spl-token-that-must-not-leak"
METRICS = "[{source_field: count, prometheus_name: m, labels: [account_id]}]"


@pytest.fixture
def splunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("SPLUNK_SECRET", SECRET)
    with api_server() as api:
        yield api


def config(splunk: Api, more: str = "", auth: str = "type: bearer_token, token_env: SPLUNK_SECRET") -> str:
    return f"""type: splunk
endpoint: {splunk.url}/
auth: {{{auth}}}
timeout: 12s
{more}
search: |
  index=payments action=blocked
  | stats count by account_id
"""


def exported(*documents: dict[str, Any]) -> Answer:
    """As the export streams them: one a line, with empty lines between sets."""
    return Answer(body="\n".join(json.dumps(document) for document in documents) + "\n\n")


def result(number: int, **more: Any) -> dict[str, Any]:
    fields = {"account_id": f"acc_{number}", "count": str(number), "_time": "2025-11-24T10:00:00.000+00:00"}
    return {"preview": False, "offset": number, "result": fields} | more


def messages(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"type": kind, "text": text} for kind, text in pairs]}


def test_final_results_are_rows_and_previews_are_not(splunk: Api) -> None:
    splunk.answer = lambda _: exported(
        messages(("INFO", "Your timerange was substituted"), ("WARN", "a peer was slow")),
        result(7, preview=True),
        result(8, preview=True, lastrow=True),
        result(1),
        result(2, lastrow=True),
    )
    with source(config(splunk), METRICS) as made:
        collection = made.collection()
        assert made.rows(collection=collection) == [("1", "acc_1"), ("2", "acc_2")]
        assert [(warning.reason, warning.detail) for warning in collection.warnings] == [
            ("splunk_warning", "a peer was slow")
        ]
    (seen,) = splunk.requests
    assert (seen.method, seen.path) == ("POST", "/services/search/v2/jobs/export")
    assert seen.headers["Authorization"] == f"Bearer {SECRET}"
    assert seen.form == {
        "search": "search index=payments action=blocked\n| stats count by account_id",
        "earliest_time": "-5m@m",
        "latest_time": "@m",
        "output_mode": "json",
        "preview": "false",
        "max_time": "17",
    }


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("type: basic, username: anna, password_env: SPLUNK_SECRET",
         "Basic " + base64.b64encode(f"anna:{SECRET}".encode()).decode()),
        ("type: splunk_token, token_env: SPLUNK_SECRET", f"Splunk {SECRET}"),
    ],
)  # fmt: skip
def test_credentials_time_range_and_namespace(splunk: Api, auth: str, header: str) -> None:
    splunk.answer = lambda _: exported(result(1, lastrow=True))
    more = "app: fraud\nowner: anna\nearliest: -1h\nlatest: now"
    text = config(splunk, more, auth).replace("index=payments action=blocked\n  ", "")
    with source(text, METRICS) as made:
        made.collect()
    (seen,) = splunk.requests
    assert seen.path == "/servicesNS/anna/fraud/search/v2/jobs/export"
    assert seen.headers["Authorization"] == header
    assert (seen.form["earliest_time"], seen.form["latest_time"]) == ("-1h", "now")
    assert seen.form["search"] == "| stats count by account_id"


def test_an_empty_result_has_no_rows(splunk: Api) -> None:
    splunk.answer = lambda _: exported({"preview": False, "lastrow": True})
    with source(config(splunk), METRICS) as made:
        assert made.collect().is_empty()


def status(code: int, *pairs: tuple[str, str], **headers: str) -> Answer:
    return Answer(
        code, body=messages(*pairs), headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


TOO_MANY = "Search not executed: The maximum number of concurrent historical searches has been reached."


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status(401, ("WARN", "call not properly authenticated")), Unauthorized,
         r"401 Unauthorized \(call not properly authenticated\): the token from SPLUNK_SECRET was refused"),
        (status(403, ("ERROR", "insufficient permission")), Denied, "insufficient permission"),
        (status(400, ("FATAL", f"Unknown search command 'stat'. {SECRET}")), QueryRefused,
         r"400 Bad Request \(Unknown search command 'stat'. \*\*\*\)"),
        (status(404, ("ERROR", "Application does not exist: fraud")), BadAnswer, "Application does not exist: fraud"),
        (status(503, ("WARN", TOO_MANY), Retry_After="60"), ServerFailed, "maximum number of concurrent"),
        (exported(messages(("FATAL", f"Error in 'eval' command: {SECRET}"))), QueryRefused,
         r"the search failed: Error in 'eval' command: \*\*\*"),
        (exported(result(1), messages(("ERROR", "peer idx2 is down"))), QueryRefused, "failed: peer idx2 is down"),
        (exported(result(1), result(2)), Unreachable, "broke off after 2 rows"),
        (Answer(body=""), Unreachable, "broke off after 0 rows"),
        (Answer(body='{"preview": false, "resu'), BadAnswer, "no JSON object: is the endpoint Splunk's"),
        (Answer(body="<html>Splunk Web</html>"), BadAnswer, "no JSON object"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pre', Unreachable, "/export: "),
        (exported(*map(result, range(20))), BudgetExceeded, r"max_rows \(10\)"),
        (Answer(body=" " * 200_000), BudgetExceeded, r"max_response_bytes \(100000\)"),
    ],
)  # fmt: skip
def test_what_splunk_refuses_is_said_in_its_words(
    splunk: Api, answer: Answer | bytes, kind: type[CollectError], words: str
) -> None:
    splunk.answer = lambda _: answer
    with (
        source(config(splunk, "max_rows: 10\nmax_response_bytes: 100000"), METRICS) as made,
        pytest.raises(kind, match=words) as failed,
    ):
        made.collect()
    assert SECRET not in str(failed.value)


def test_too_many_searches_are_waited_for_in_the_same_run(splunk: Api) -> None:
    answers = iter([status(503, ("WARN", TOO_MANY), Retry_After="0"), exported(result(1, lastrow=True))])
    splunk.answer = lambda _: next(answers)
    with source(config(splunk), METRICS) as made:
        assert made.rows() == [("1", "acc_1")]


def test_rows_beyond_the_budget_may_be_left_out(splunk: Api) -> None:
    splunk.answer = lambda _: exported(*map(result, range(20)))
    with source(config(splunk, "max_rows: 3\nover_budget: truncate"), METRICS) as made:
        assert len(made.collect()) == 3


def test_a_field_that_no_result_has_is_named(splunk: Api) -> None:
    splunk.answer = lambda _: exported(result(1, lastrow=True))
    sources = config(splunk).replace("type", "- name: source\ntype", 1).replace("\n", "\n  ")
    text = f"{sources}\n  interval: 1h\n  metrics: [{{source_field: cnt, prometheus_name: m, labels: [account_id]}}]\n"
    with running(text) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert reason == FieldMissing.reason
        assert "no field 'cnt'; did you mean 'count'?" in message


def test_a_search_that_takes_too_long_is_hung_up_on(splunk: Api) -> None:
    splunk.answer = lambda _: Answer(held=threading.Event())
    with source(config(splunk), METRICS) as made, pytest.raises(TimedOut):
        made.cancelled_once(lambda: splunk.requests)
