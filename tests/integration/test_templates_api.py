"""The API of prompt templates: what is refused, what a test shows, who did it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import page_rows as rows
import pytest
from access_rows import FOREIGN, OWN, Site
from fakes_llm import LlmStub, completion, hanging, words

from webhook.domain.access import Role
from webhook.domain.prompt import DEFAULT_TEMPLATE
from webhook.storage.access_tables import audit_log

URL = "/api/v1/alert-templates/CARD_TESTING"
GOOD = "Be brief.\n<alert_data>{{merchant_name}} {{metrics_data}}</alert_data>\nThank you."


@pytest.fixture
def llm() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


@pytest.fixture
def site(tmp_path: Any, llm: LlmStub) -> Iterator[Site]:
    settings = {"llm_model": "stub-1", "llm_base_url": llm.url, "prometheus_url": "http://127.0.0.1:9"}
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings=settings)
    yield site
    site.close()


def call(site: Site, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = site.client().open(path, method=method, json=body, headers={"X-API-Key": site.keys[Role.OPS], **headers})
    return answer.status_code, answer.get_json()


def test_a_template_s_life(site: Site) -> None:
    status, listed = call(site, "GET", "/api/v1/alert-templates")
    assert (status, [entry["version"] for entry in listed["data"]]) == (200, [0])
    assert "baseline_metrics" in listed["variables"]
    assert call(site, "GET", URL)[0] == 404

    assert call(site, "PUT", URL, {"prompt_template": GOOD, "version": 0})[1]["version"] == 1
    assert call(site, "PUT", URL, {"prompt_template": DEFAULT_TEMPLATE}, **{"If-Match": '"1"'})[1]["version"] == 2
    status, refused = call(site, "PUT", URL, {"prompt_template": GOOD, "version": 1})
    assert (status, refused["version"]) == (409, 2)
    assert call(site, "DELETE", URL, None, **{"If-Match": '"1"'})[0] == 412
    assert call(site, "DELETE", URL)[1]["is_active"] is False
    assert call(site, "DELETE", URL)[0] == 404
    assert call(site, "POST", f"{URL}/restore", {"restore_version": 1})[1]["version"] == 3
    versions = call(site, "GET", URL)[1]["data"]
    assert [(entry["version"], entry["is_active"], entry["created_by"]) for entry in versions] == [
        (3, True, "ops"),
        (2, False, "ops"),
        (1, False, "ops"),
    ]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{merchant_name}}: <alert_data>{{metrics_data}}</alert_data>", "merchant_name outside the data block"),
        ("<alert_data>{{metrics_data}}</alert_data>{{alert}}", "alert outside the data block"),
        ("<alert_data>{{metrics_data}} {{password}}</alert_data>", "unknown variable password"),
        ("<alert_data>{{merchant_name}}</alert_data>", "lacks {{metrics_data}}"),
        ("{{metrics_data}}", "wants one <alert_data>"),
        ("</alert_data>{{metrics_data}}<alert_data>", "wants one <alert_data>"),
        ("<alert_data>{{metrics_data}}</alert_data><alert_data></alert_data>", "wants one <alert_data>"),
        ("<alert_data>{{metrics_data}} {{ merchant name }}</alert_data>", "is no variable"),
        ("<alert_data>{{metrics_data}} {{{{merchant_name}}}}</alert_data>", "is no variable"),
    ],
)
def test_a_template_that_lets_data_out_is_refused(site: Site, template: str, told: str) -> None:
    for method, path, body in (("PUT", URL, {}), ("POST", f"{URL}/test", {"alert_id": site.own})):
        status, problem = call(site, method, path, {**body, "prompt_template": template})
        assert status == 400
        assert told in problem["detail"]
    assert call(site, "GET", URL)[0] == 404


def test_a_test_shows_the_prompt_and_sends_nothing(site: Site, llm: LlmStub) -> None:
    status, tested = call(site, "POST", f"{URL}/test", {"alert_id": site.foreign, "prompt_template": GOOD})
    assert status == 200
    assert tested["user"].startswith("Be brief.\n<alert_data>")
    assert f"Merchant {FOREIGN}" in tested["user"]
    assert (tested["answer"], tested["refused"], tested["language"]) == (None, None, "en")
    assert llm.requests == []
    with site.database.read() as connection:
        (row,) = connection.execute(audit_log.select().where(audit_log.c.action == "alert_template_tested")).mappings()
    assert (row["actor"], row["account_id"], row["details"]) == ("ops", FOREIGN, {"asked": False})
    assert call(site, "POST", f"{URL}/test", {"alert_id": "11111111-1111-4111-8111-111111111111"})[0] == 404


def test_a_model_is_asked_where_wanted(site: Site, llm: LlmStub) -> None:
    body = {"alert_id": site.own, "ask": True}
    llm.answers = [completion(json.dumps(words(summary="Many payments are blocked.")))]
    tested = call(site, "POST", f"{URL}/test", body)[1]
    assert (tested["answer"]["summary"], tested["answer"]["model"]) == ("Many payments are blocked.", "stub-1")
    llm.answers = [completion(json.dumps(words(summary="87 % of payments were blocked, and 99.9 % next.")))]
    tested = call(site, "POST", f"{URL}/test", body)[1]
    assert tested["answer"] is None
    assert "numbers that the metrics do not hold" in tested["refused"]
    assert OWN in tested["user"]


def test_a_test_ends_when_no_model_answers(tmp_path: Any, llm: LlmStub) -> None:
    settings = {
        "llm_model": "stub-1",
        "llm_base_url": llm.url,
        "llm_timeout": "0.5s",
        "prometheus_url": "http://127.0.0.1:9",
    }
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings=settings)
    llm.answers = [hanging()]
    tested = call(site, "POST", f"{URL}/test", {"alert_id": site.own, "ask": True})[1]
    assert "no answer in time" in tested["refused"]
    site.close()
