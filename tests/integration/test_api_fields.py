"""Each field that the owner's document (§5) shows of an answer is in ours, by its name, with what it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import page_rows as rows
import pytest
from access_rows import Site
from page_rows import NOW

from webhook.domain.ledger import IngestSettings
from webhook.storage.database import Database

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
REPORT = {
    "merchant_id": "acc_017",
    "alert_type": "CARD_TESTING",
    "metrics": [
        {
            "metric_name": "block_rate",
            "metric_value": 0.45,
            "threshold": 0.30,
            "time_window": "10min",
            "metadata": {
                "total_transactions": 1000,
                "blocked_transactions": 450,
                "comparison_to_baseline": "+40%",
            },
        },
        {"metric_name": "failed_auth_rate", "metric_value": 0.67, "threshold": 0.50, "time_window": "10min"},
    ],
    "event_metadata": {"source_system": "metric-platform", "detected_at": "2026-03-14T15:00:00Z", "region": "AP"},
}
CONFIG = {
    "merchant_id": "acc_017",
    "alert_type": "CARD_TESTING",
    "enabled": True,
    "channels": {"console": {"enabled": True}, "sms": {"enabled": False}, "webapp": {"enabled": True}},
    "trigger_conditions": [
        {"metric_name": "block_rate", "operator": ">", "threshold": 0.35, "time_window": "10min"},
    ],
    "frequency_control": {
        "max_alerts_per_hour": 1,
        "max_alerts_per_day": 15,
        "min_interval_minutes": 0,
        "digest": True,
    },
}


class Shop:
    def __init__(self, site: Site) -> None:
        self.site, self.client, self.database = site, site.client(), site.database
        self.headers = {"Authorization": f"Bearer {rows.TOKEN}", "If-Match": "*"}

    def ask(self, method: str, path: str, status: int = 200, **sent: Any) -> Any:
        response = self.client.open(f"/api/v1/{path}", method=method, headers=self.headers, **sent)
        assert response.status_code == status, response.text
        return response.get_json(force=True)

    def report(self, status: int = 201, **changes: Any) -> Any:
        return self.ask("POST", "alerts/metrics", status, json=REPORT | changes)


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    assert IngestSettings().channels == {"console": {}}
    site = Site(database, clock=rows.Clock())
    yield Shop(site)
    site.close()


def times_in(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Where in an answer there are times, and how they are written."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from times_in(value, f"{path}.{name}")
    elif isinstance(document, list):
        for value in document:
            yield from times_in(value, path)
    elif isinstance(document, str) and re.match(r"\d{4}-\d\d-\d\dT", document):
        yield path, document


def test_a_report_is_answered_as_documented(shop: Shop) -> None:
    created = shop.report()
    assert created.keys() >= {"alert_id", "status", "triggered_at", "message"}
    assert (created["status"], created["message"]) == ("created", "Alert created and notifications queued")
    assert TIME.fullmatch(created["triggered_at"])
    nothing = shop.report(200, merchant_id="acc_9", metrics=[REPORT["metrics"][0] | {"metric_value": 0.1}])  # type: ignore[index]
    assert nothing.keys() == {"status", "message", "evaluated_conditions"}
    assert nothing["evaluated_conditions"] == [{"condition": "block_rate > 0.3", "met": False}]


def test_a_limited_report_is_answered_as_documented(shop: Shop) -> None:
    shop.ask("PUT", "alerts/config", json=CONFIG | {"frequency_control": {"max_alerts_per_hour": 0}})
    limited = shop.report(429)
    assert limited.keys() >= {"error", "message", "retry_after_seconds", "limit_details"}
    assert limited["error"] == "rate_limit_exceeded"
    details = limited["limit_details"]
    assert (details["max_per_hour"], details["current_count"]) == (0, 0)
    assert TIME.fullmatch(details["window_reset_at"])


def test_the_list_is_as_documented(shop: Shop) -> None:
    shop.report()
    listed = shop.ask("GET", "alerts", query_string={"merchant_id": "acc_017", "sort_by": "triggered_at"})
    assert listed["pagination"].items() >= {"page": 1, "page_size": 20, "total_count": 1, "total_pages": 1}.items()
    (entry,) = listed["data"]
    names = (
        "alert_id merchant_id alert_type severity title summary status triggered_at metrics_summary "
        "notification_channels"
    )
    assert entry.keys() >= set(names.split())
    assert entry["metrics_summary"].items() >= {"block_rate": 0.45, "blocked_transactions": 450}.items()
    assert entry["notification_channels"] == ["console"]


def test_the_detail_is_as_documented(shop: Shop) -> None:
    alert_id = shop.report()["alert_id"]
    rows.insert_notification(shop.database, alert_id, status="DELIVERED")
    shop.ask("POST", f"alerts/{alert_id}/acknowledge", json={"acknowledged_by": "dana"})
    detail = shop.ask("GET", f"alerts/{alert_id}")
    names = (
        "alert_id merchant_id merchant_name alert_type severity title summary suggested_action status triggered_at "
        "resolved_at metrics raw_metrics notifications actions_taken"
    )
    assert detail.keys() >= set(names.split())
    metrics = {metric["metric_name"]: metric for metric in detail["metrics"]}
    for reported in REPORT["metrics"]:
        name = reported["metric_name"]  # type: ignore[index]
        assert metrics[name].items() >= ({"metadata": {}} | reported).items(), name  # type: ignore[operator]
    event = REPORT["event_metadata"] | {"detected_at": "2026-03-14T15:00:00.000000Z"}  # type: ignore[operator]
    assert detail["raw_metrics"].items() >= event.items()
    assert detail["raw_metrics"]["detailed_breakdown"]["total_transactions"] == 1000
    assert {sent["channel"] for sent in detail["notifications"]} == {"console", "slack"}
    (delivered,) = [sent for sent in detail["notifications"] if sent["channel"] == "slack"]
    assert delivered.keys() >= {"channel", "status", "sent_at", "delivered_at"}
    assert delivered["status"] == "delivered"
    (action,) = detail["actions_taken"]
    assert (action["action_type"], action["performed_by"]) == ("acknowledged", "dana")
    assert action.keys() >= {"action_time", "details"}


def test_what_a_later_report_says_is_shown_with_its_values(shop: Shop) -> None:
    alert_id = shop.report()["alert_id"]
    shop.site.clock.now += timedelta(minutes=5)
    metric = REPORT["metrics"][0] | {"metric_value": 0.9, "metadata": {"comparison_to_baseline": "+85%"}}  # type: ignore[index]
    shop.report(200, metrics=[metric])
    (shown,) = shop.ask("GET", f"alerts/{alert_id}")["metrics"]
    assert (shown["metric_value"], shown["metadata"]) == (0.9, {"comparison_to_baseline": "+85%"})


def test_configurations_are_as_documented(shop: Shop) -> None:
    saved = shop.ask("PUT", "alerts/config", json=CONFIG)
    assert saved.keys() >= {"config_id", "message", "updated_at"}
    read = shop.ask("GET", "alerts/config", query_string={"merchant_id": "acc_017"})
    assert read["merchant_id"] == "acc_017"
    (config,) = read["alert_configs"]
    for name in ("alert_type", "enabled", "frequency_control"):
        assert config[name] == CONFIG[name]
    for channel, settings in CONFIG["channels"].items():  # type: ignore[attr-defined]
        assert config["channels"][channel].items() >= settings.items()
    assert config["trigger_conditions"][0].items() >= CONFIG["trigger_conditions"][0].items()  # type: ignore[index]


def test_actions_are_answered_as_documented(shop: Shop) -> None:
    first, second = shop.report()["alert_id"], shop.report(merchant_id="acc_2")["alert_id"]
    resent = shop.ask("POST", f"alerts/{first}/resend-notification", json={"channels": ["console"]})
    assert resent.items() >= {"alert_id": first, "queued_channels": ["console"]}.items()
    assert resent["message"] == "Notifications queued for resending"
    resolved = shop.ask("POST", f"alerts/{first}/resolve", json={"resolution_note": "x", "resolved_by": "u"})
    assert resolved.items() >= {"alert_id": first, "status": "RESOLVED", "message": "Alert marked as resolved"}.items()
    assert TIME.fullmatch(resolved["resolved_at"])
    body = {"dismiss_reason": "False positive - normal traffic pattern", "dismissed_by": "u"}
    dismissed = shop.ask("POST", f"alerts/{second}/dismiss", json=body)
    assert dismissed.items() >= {"alert_id": second, "status": "DISMISSED"}.items()
    assert TIME.fullmatch(dismissed["dismissed_at"])


def test_each_time_of_each_answer_is_written_the_same_way(shop: Shop) -> None:
    alert_id = shop.report()["alert_id"]
    shop.ask("POST", f"alerts/{alert_id}/acknowledge")
    shop.ask("PUT", "alerts/config", json=CONFIG)
    answers = {
        path: shop.ask("GET", path)
        for path in (
            "alerts", f"alerts/{alert_id}", f"alerts/{alert_id}/comments", f"alerts/{alert_id}/notifications",
            "triggers", "notifications", "statistics", "audit", "api-keys",
            "alerts/config?merchant_id=acc_017", "alerts/config/versions?merchant_id=acc_017&alert_type=CARD_TESTING",
        )
    }  # fmt: skip
    odd = [(path, at) for path, answer in answers.items() for at in times_in(answer) if not TIME.fullmatch(at[1])]
    assert odd == []
    assert NOW.isoformat().startswith(answers["alerts"]["data"][0]["triggered_at"][:19])
