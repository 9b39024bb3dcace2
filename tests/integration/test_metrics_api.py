"""Reports of a metric platform, and requests that come again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from ingest_shop import MINUTE, START, Shop, by, firing, save_configs
from structlog.testing import capture_logs

from webhook.app import create_app
from webhook.config import Settings
from webhook.domain.action import DismissReason
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.explanation import StepKind, explain
from webhook.pipeline.sweep import Sweep
from webhook.storage.explaining import read_facts
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import (
    alert,
    alert_dynamic,
    alert_instance,
    alert_trigger_log,
    handled_request,
    notification,
)
from webhook.web.answers import time_text

PATH = "/api/v1/alerts/metrics"
RECEIVER = "/api/v1/alerts/prometheus/webhook"
KEY = {"X-API-Key": "s3cret-token"}


class Site(Shop):
    """The web process over a store, at the store's time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        settings = Settings(
            database_url=url,
            ingest_token="s3cret-token",
            admin_token="admin-of-some-length",
            secret_key="key-of-some-length",
            max_body_bytes=100_000,
        )
        self.app = create_app(settings, clock=lambda: self.now)
        self.client: FlaskClient = self.app.test_client()

    def report(self, *, after: timedelta = timedelta(0), request_id: str | None = None, **changes: Any) -> Any:
        self.now += after
        headers = KEY | ({"X-Request-ID": request_id} if request_id else {})
        return self.client.post(PATH, json=report(**changes), headers=headers)

    def sweep(self, *, after: timedelta) -> None:
        self.now += after
        sweeping = Sweeping(self.database, self.settings.types, self.settings.channels)
        Sweep(sweeping, Outbox(self.database), self.settings.types).run_once(self.now)


def report(rate: float = 0.45, threshold: float | None = 0.30, merchant: str = "m-1", **event: Any) -> dict[str, Any]:
    metric = {
        "metric_name": "block_rate",
        "metric_value": rate,
        "threshold": threshold,
        "time_window": "10min",
        "metadata": {"total_transactions": 1000, "blocked_transactions": 450},
    }
    return {
        "merchant_id": merchant,
        "alert_type": "CARD_TESTING",
        "metrics": [metric],
        "event_metadata": {"source_system": "metric-platform", "region": "AP", **event},
    }


@pytest.fixture
def site(store_url: str) -> Iterator[Site]:
    site = Site(store_url)
    yield site
    site.database.close()
    site.app.extensions["sentinel_database"].close()


def test_values_above_their_thresholds_make_an_alert(site: Site) -> None:
    response = site.report(detected_at="2026-01-05T11:59:00Z")
    assert response.status_code == 201
    (stored,) = site.rows(alert)
    answer = response.get_json()
    assert answer == {
        "alert_id": stored["id"],
        "status": "created",
        "triggered_at": time_text(START),
        "message": "Alert created and notifications queued",
    }
    assert stored["metrics_data"] == {"block_rate": 0.45, "total_transactions": 1000, "blocked_transactions": 450}
    (row,) = site.rows(alert_trigger_log)
    assert (row["source"], row["account_id"], row["starts_at"]) == ("metrics", "m-1", START - MINUTE)
    assert row["verdict"]["conditions"][0]["met"] is True
    (told,) = site.rows(notification)
    assert told["content"]["thresholds"] == {"block_rate": 0.3}


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-07-20T20:17:40Z"])
def test_a_time_beyond_all_reckoning_is_taken(site: Site, at: str) -> None:
    assert site.report(detected_at=at).status_code == 201
    assert site.rows(alert_trigger_log)[0]["starts_at"] <= START


def test_names_that_the_database_cannot_keep_are_mended(site: Site) -> None:
    body = report() | {"event_metadata": {"a\x00b": 1.5}}
    assert site.client.post(PATH, json=body, headers=KEY).status_code == 201
    assert site.rows(alert_trigger_log)[0]["labels"] == {"a\ufffdb": "1.5"}


def test_values_below_are_answered_with_the_conditions(site: Site) -> None:
    response = site.report(rate=0.1)
    assert response.status_code == 200
    assert response.get_json() == {
        "status": "no_alert",
        "message": "Metrics do not meet trigger conditions",
        "evaluated_conditions": [{"condition": "block_rate > 0.3", "met": False}],
    }
    assert site.report(threshold=None, merchant="m-2").get_json()["evaluated_conditions"] == []
    assert site.rows(alert) == []
    assert [row["outcome"] for row in site.rows(alert_trigger_log)] == ["suppressed"] * 2


def test_the_merchants_own_conditions_come_first(site: Site) -> None:
    own = MerchantConfig("m-1", "CARD_TESTING", conditions=(Condition("total_transactions", ">=", 1001),))
    save_configs(site.database, [own, MerchantConfig("off", "CARD_TESTING", enabled=False)], site.now)
    answer = site.report().get_json()
    assert answer["evaluated_conditions"] == [{"condition": "total_transactions >= 1001", "met": False}]
    assert site.report(merchant="off").get_json()["message"] == "No alert: disabled"


def test_a_series_of_reports_is_one_firing_until_it_falls_below(site: Site) -> None:
    alert_id = site.report().get_json()["alert_id"]
    again = site.report(after=MINUTE)
    assert (again.status_code, again.get_json()["status"]) == (200, "duplicate")
    merged = site.report(after=5 * MINUTE)
    assert (merged.status_code, merged.get_json()["status"]) == (200, "merged")
    assert merged.get_json()["alert_id"] == alert_id
    assert len(site.rows(alert_instance)) == 1
    assert site.report(rate=0.1, after=5 * MINUTE).get_json()["status"] == "no_alert"
    assert site.report(after=5 * MINUTE).get_json()["status"] == "merged"
    assert len(site.rows(alert_instance)) == 2, "it fell below in between"


def test_each_window_of_a_metric_is_judged_by_its_own_value(site: Site) -> None:
    body = report()
    body["metrics"].append({"metric_name": "block_rate", "metric_value": 0.1, "threshold": 0.05, "time_window": "1h"})
    assert site.client.post(PATH, json=body, headers=KEY).status_code == 201
    (row,) = site.rows(alert_trigger_log)
    assert [(c["value"], c["threshold"], c["met"]) for c in row["verdict"]["conditions"]] == [
        (0.45, 0.3, True),
        (0.1, 0.05, True),
    ]
    own = MerchantConfig("m-1", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.3),))
    save_configs(site.database, [own], site.now)
    site.now += 5 * MINUTE
    assert site.client.post(PATH, json=body, headers=KEY).get_json()["status"] == "merged"


def test_reports_detected_before_the_last_firing_began_are_one_firing(site: Site) -> None:
    site.report()
    site.sweep(after=16 * MINUTE)
    answers = []
    for number in range(10):
        detected_at = (START - 10 * MINUTE + 5 * number * timedelta(seconds=1)).isoformat()
        answers.append(site.report(after=timedelta(seconds=5), detected_at=detected_at).get_json()["status"])
    assert answers == ["created"] + ["duplicate"] * 9
    (state,) = site.rows(alert_dynamic, status="ACTIVE")
    assert (state["occurrence_count"], state["current_severity"]) == (1, "P3")


def test_a_reporter_that_always_names_one_start_has_no_say_in_what_is_new(site: Site) -> None:
    start = START.isoformat()
    alert_id = site.report(detected_at=start).get_json()["alert_id"]
    site.actions.dismiss(alert_id, DismissReason.OTHER, "", by("mia", site.now))
    assert site.report(detected_at=start, after=5 * MINUTE).get_json()["status"] == "stale"
    site.report(rate=0.1, detected_at=start, after=5 * MINUTE)
    assert site.report(detected_at=start, after=5 * MINUTE).status_code == 201, "it fell below: this is another attack"


def test_reports_that_stop_end_the_alert_without_alertmanager(site: Site) -> None:
    site.report()
    site.sweep(after=16 * MINUTE)
    assert site.rows(alert_dynamic)[0]["status"] == "RESOLVED"
    assert [row["reason"] for row in site.rows(notification)] == ["first", "resolved"]
    assert site.rows(alert_trigger_log)[-1]["outcome_reason"] == "nothing was reported for a session timeout"


def test_what_a_person_dismissed_stays_so_while_the_series_goes_on(site: Site) -> None:
    alert_id = site.report().get_json()["alert_id"]
    site.actions.dismiss(alert_id, DismissReason.OTHER, "", by("mia", site.now))
    for _ in range(5):
        assert site.report(after=5 * MINUTE).get_json()["status"] == "stale"
    site.report(rate=0.1, after=5 * MINUTE)
    assert site.report(after=5 * MINUTE).status_code == 201


def test_a_limit_is_answered_with_429_and_the_alert_is_kept(site: Site) -> None:
    limits = {"frequency_control": {"max_alerts_per_hour": 1, "max_alerts_per_day": 5}}
    save_configs(site.database, [MerchantConfig("m-1", "CARD_TESTING", notification_settings=limits)], site.now)
    assert site.report().status_code == 201
    site.sweep(after=16 * MINUTE)
    response = site.report(after=MINUTE)
    assert response.status_code == 429
    answer = response.get_json()
    assert answer["error"] == "rate_limit_exceeded"
    assert answer["retry_after_seconds"] == 43 * 60
    assert response.headers["Retry-After"] == "2580"
    assert answer["limit_details"] == {
        "max_per_hour": 1,
        "current_count": 1,
        "window_reset_at": time_text(START + timedelta(hours=1)),
    }
    assert answer["alert_id"] == site.rows(alert)[-1]["id"]
    with site.database.read() as connection:
        facts = read_facts(connection, answer["alert_id"])
        assert read_facts(connection, answer["alert_id"], frozenset({"m-2"})) is None
    assert facts is not None
    steps = explain(facts, site.settings.types["CARD_TESTING"]).steps
    assert [step.kind for step in steps] == [StepKind.FIRED, StepKind.WITHHELD]
    assert "block_rate 45 % > 30 %: met" in steps[0].text
    assert steps[1].text == (
        "No message: max_alerts_per_hour allows 1 and 1 were sent; a place becomes free at 2026-01-05 13:00:00 UTC."
    )
    assert steps[1].data["limit"]["maximum"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (report() | {"extra": 1}, "extra"),
        (report() | {"metrics": []}, "metrics"),
        (report() | {"merchant_id": ""}, "merchant_id"),
        (report() | {"merchant_id": "a\x00"}, "merchant_id"),
        (report(detected_at="yesterday"), "event_metadata"),
        (report(detected_at="2026-01-05T11:59:00"), "event_metadata"),
        (report(detected_at=1767614340), "event_metadata"),
        (report(region="\x00"), "event_metadata.region.constrained-str"),
    ],
)
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_what_cannot_be_read_is_refused_with_the_field(site: Site, body: Any, field: str) -> None:
    response = site.client.post(PATH, json=body, headers=KEY)
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert field in [error["field"] for error in response.get_json()["errors"]]
    assert site.rows(alert_trigger_log) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_only_with_a_key_and_not_too_much(site: Site) -> None:
    assert site.client.post(PATH, json=report()).status_code == 401
    assert site.client.post(PATH, json=report(), headers={"X-API-Key": "other"}).status_code == 401
    bearer = {"Authorization": "Bearer s3cret-token"}
    assert site.client.post(PATH, json=report(), headers=bearer).status_code == 201
    assert site.client.post(PATH, data=b" " * 100_001, headers=KEY).status_code == 413
    as_json = {"Content-Type": "application/json"}
    assert site.client.post(PATH, data=b'{"metrics": NaN', headers=KEY | as_json).status_code == 400
    assert site.client.post(PATH, json=[], headers=KEY).status_code == 400


def test_a_request_that_comes_again_is_answered_as_the_first_time(site: Site) -> None:
    first = site.report(request_id="r-1")
    again = site.report(request_id="r-1", after=20 * MINUTE)
    assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(site.rows(alert_trigger_log)) == 1
    other = site.report(request_id="r-1", rate=0.5)
    assert (other.status_code, other.content_type) == (422, "application/problem+json")
    assert len(site.rows(alert_trigger_log)) == 1
    assert site.report(request_id="x" * 129).status_code == 400
    headers = {"Authorization": "Bearer s3cret-token", "X-Request-ID": "r-2"}
    for _ in range(2):
        answer = site.client.post(RECEIVER, json={"alerts": [firing()]}, headers=headers).get_json()
        assert answer["outcomes"] == ["created"]


@pytest.mark.parametrize("name", ["x" * 129, "with a space", "used"])
def test_no_delivery_is_lost_to_a_name_that_cannot_be_used(site: Site, name: str) -> None:
    """Alertmanager comes again after no 4xx."""
    headers = {"Authorization": "Bearer s3cret-token", "X-Request-ID": "used"}
    site.client.post(RECEIVER, json={"alerts": []}, headers=headers)
    with capture_logs() as lines:
        answer = site.client.post(RECEIVER, json={"alerts": [firing()]}, headers=headers | {"X-Request-ID": name})
    assert (answer.status_code, answer.get_json()["outcomes"]) == (200, ["created"])
    assert [line["log_level"] for line in lines if line["event"] == "request_id_ignored"] == ["warning"]
    again = site.client.post(RECEIVER, json={"alerts": [firing()]}, headers=headers | {"X-Request-ID": name})
    assert again.get_json()["outcomes"] == ["duplicate"]


def test_a_name_is_free_again_after_a_day_whether_anything_swept_or_not(site: Site) -> None:
    first = site.report(request_id="r-1")
    kept = site.report(request_id="r-1", rate=0.5, after=timedelta(hours=24))
    assert kept.status_code == 422
    later = site.report(request_id="r-1", after=timedelta(seconds=1))
    assert (later.status_code, "Idempotent-Replayed" in later.headers) == (201, False)
    assert later.get_json()["alert_id"] != first.get_json()["alert_id"]
    again = site.report(request_id="r-1", after=MINUTE)
    assert (again.headers["Idempotent-Replayed"], again.get_json()) == ("true", later.get_json())
    assert len(site.rows(handled_request)) == 1


def test_a_refused_and_a_limited_answer_are_given_again_too(site: Site) -> None:
    limits = {"frequency_control": {"max_alerts_per_hour": 0}}
    save_configs(site.database, [MerchantConfig("m-1", "CARD_TESTING", notification_settings=limits)], site.now)
    first = site.report(request_id="r")
    again = site.report(request_id="r", after=5 * MINUTE)
    assert (first.status_code, again.status_code) == (429, 429)
    assert again.get_json() == first.get_json()
    assert again.headers["Retry-After"] == first.headers["Retry-After"]


def test_of_twins_one_decides(site: Site) -> None:
    barrier = threading.Barrier(4)

    def send(_: int) -> tuple[int, str]:
        with site.app.test_client() as client:
            barrier.wait()
            answer = client.post(PATH, json=report(), headers=KEY | {"X-Request-ID": "twin"})
            return answer.status_code, answer.get_json()["alert_id"]

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(send, range(4)))
    assert len(answers) == 1
    assert len(site.rows(alert_trigger_log)) == 1
