"""Deliveries against both databases: what is stored, and what resends, races and restarts make of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ingest_shop import MINUTE, START, Shop, by, firing, shop

from webhook.alert_type_settings import ConfigFile
from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.ledger import Changes, IngestSettings
from webhook.domain.payload import parse_payload
from webhook.pipeline.together import Together
from webhook.storage.acting import Acted
from webhook.storage.database import Database
from webhook.storage.store import AlertStore
from webhook.storage.tables import (
    alert,
    alert_comment,
    alert_dynamic,
    alert_instance,
    alert_relationship,
    alert_trigger_log,
    notification,
)

__all__ = ["shop"]


def test_a_new_alert_is_stored_whole_and_a_message_is_due(shop: Shop) -> None:
    assert shop.outcomes(firing()) == ["created"]

    (stored,) = shop.rows(alert)
    assert stored["metrics_data"] == {"block_rate": 0.35038363171355497}
    assert stored["account_id"] == "acc_001"
    (state,) = shop.rows(alert_dynamic)
    assert (state["status"], state["session_status"], state["occurrence_count"]) == ("ACTIVE", "ACTIVE", 1)
    (told,) = shop.rows(notification)
    assert (told["channel_type"], told["status"], told["reason"]) == ("console", "PENDING", "first")
    assert told["content"]["metrics"] == {"block_rate": 0.35038363171355497}
    assert told["content"]["thresholds"] == {"block_rate": 0.2}
    assert told["not_before"] == shop.now
    (relationship,) = shop.rows(alert_relationship)
    assert relationship["account_type"] == "merchant"
    (row,) = shop.rows(alert_trigger_log)
    assert (row["outcome"], row["notify"], row["alert_id"]) == ("created", "first", stored["id"])
    assert row["verdict"]["reason"] == "no merchant configuration: the rule decides"


def test_a_resend_and_a_second_alertmanager_change_no_count(shop: Shop) -> None:
    shop.deliver(firing())
    assert shop.outcomes(firing(), after=timedelta(seconds=2)) == ["duplicate"]
    assert shop.outcomes(firing(), after=2 * MINUTE) == ["duplicate"]
    assert shop.rows(alert_dynamic)[0]["occurrence_count"] == 1
    assert shop.rows(alert_instance)[0]["last_heard_at"] == shop.now

    assert shop.outcomes(firing(), after=3 * MINUTE) == ["session_updated"]
    assert shop.outcomes(firing(), after=timedelta(seconds=20)) == ["duplicate"]
    assert shop.rows(alert_dynamic)[0]["occurrence_count"] == 2
    assert [row["comment_type"] for row in shop.rows(alert_comment)] == ["TRIGGER_EVENT"]


def test_rules_of_one_type_are_one_session_with_the_gravest_severity(shop: Shop) -> None:
    outcomes = shop.outcomes(firing(), firing(name="CardTestingSevere", severity="P1"), firing(name="Mild"))
    assert outcomes == ["created", "session_updated", "session_updated"]
    (state,) = shop.rows(alert_dynamic)
    assert (state["current_severity"], state["occurrence_count"]) == ("P1", 3)
    (rise,) = state["escalation_history"]["escalations"]
    assert (rise["from_severity"], rise["to_severity"], rise["reason"]) == ("P3", "P1", "rule_severity")
    assert [row["reason"] for row in shop.rows(notification)] == ["first", "escalated"]
    escalated = next(row for row in shop.rows(notification) if row["reason"] == "escalated")
    comments = {row["id"]: row["comment_type"] for row in shop.rows(alert_comment)}
    assert comments[escalated["comment_id"]] == "SEVERITY_ESCALATION"


def test_ten_occurrences_raise_to_p2_and_are_told(shop: Shop) -> None:
    for _ in range(10):
        shop.deliver(firing(), after=5 * MINUTE)
    (state,) = shop.rows(alert_dynamic)
    assert (state["current_severity"], state["occurrence_count"]) == ("P2", 10)
    assert [row["reason"] for row in shop.rows(notification)] == ["first", "escalated"]


def test_two_hours_raise_to_p1(shop: Shop) -> None:
    for _ in range(9):
        shop.deliver(firing(), after=14 * MINUTE)
    (state,) = shop.rows(alert_dynamic)
    assert shop.now - state["session_started_at"] < timedelta(hours=2)
    assert state["current_severity"] == "P3"
    shop.deliver(firing(), after=14 * MINUTE)
    (state,) = shop.rows(alert_dynamic)
    assert state["current_severity"] == "P1"
    assert state["escalation_history"]["escalations"][-1]["reason"] == "duration_threshold"


def test_a_session_that_timed_out_takes_comments_for_a_day_then_a_new_alert_begins(shop: Shop) -> None:
    shop.deliver(firing())
    assert shop.outcomes(firing(starts_at=START + MINUTE), after=16 * MINUTE) == ["comment_added"]
    (state,) = shop.rows(alert_dynamic)
    assert (state["session_status"], state["occurrence_count"], state["status"]) == ("EXPIRED", 2, "ACTIVE")

    assert shop.outcomes(firing(starts_at=START + 2 * MINUTE), after=MINUTE) == ["comment_added"]
    assert shop.outcomes(firing(), after=timedelta(hours=25)) == ["created"]
    assert Counter(row["session_status"] for row in shop.rows(alert_dynamic)) == {"EXPIRED": 1, "ACTIVE": 1}


def test_without_a_sweep_a_forgotten_session_makes_room(shop: Shop) -> None:
    shop.deliver(firing())
    assert shop.outcomes(firing(), after=timedelta(hours=25)) == ["created"]
    states = shop.rows(alert_dynamic)
    assert Counter(row["session_status"] for row in states) == {"EXPIRED": 1, "ACTIVE": 1}


def test_a_session_whose_instance_was_heard_stays_open(shop: Shop) -> None:
    shop.settings = IngestSettings(AlertTypes(AlertTypeSettings(occurrence_interval=timedelta(hours=1))))
    shop.deliver(firing())
    for _ in range(4):
        assert shop.outcomes(firing(), after=10 * MINUTE) == ["duplicate"]
    assert shop.outcomes(firing(name="CardTestingSevere"), after=10 * MINUTE) == ["session_updated"]


def test_resolved_ends_the_instance_and_a_late_firing_is_stale(shop: Shop) -> None:
    shop.deliver(firing())
    assert shop.outcomes(firing(status="resolved"), after=MINUTE) == ["resolved"]
    (instance,) = shop.rows(alert_instance)
    assert (instance["status"], instance["resolved_at"]) == ("RESOLVED", shop.now)
    assert shop.outcomes(firing(), after=MINUTE) == ["stale"]
    assert shop.outcomes(firing(status="resolved"), after=MINUTE) == ["resolved"]
    assert shop.rows(alert_instance)[0]["resolved_at"] == START + MINUTE
    assert shop.rows(alert_dynamic)[0]["status"] == "ACTIVE"

    assert shop.outcomes(firing(), after=20 * MINUTE) == ["comment_added"]
    assert shop.rows(alert_instance)[0]["status"] == "FIRING"


def test_a_resolve_that_was_never_heard_firing_is_recorded_only(shop: Shop) -> None:
    assert shop.outcomes(firing(status="resolved")) == ["resolved"]
    assert shop.rows(alert) == []
    assert shop.outcomes(firing(), after=MINUTE) == ["stale"]


def test_an_alert_without_account_goes_to_operations(shop: Shop) -> None:
    shop.deliver(firing(None))
    assert shop.rows(alert)[0]["account_id"] == "_operations"
    assert shop.rows(alert_relationship)[0]["account_type"] == "operations"


def test_each_problem_of_operations_is_told(shop: Shop) -> None:
    """They have no merchant: as shipped, rule, source and exporter keep them apart."""
    shop.settings = IngestSettings(ConfigFile().types())

    def problem(name: str, **labels: str) -> dict[str, Any]:
        alert = firing(None, name=name, severity="P2")
        labels = {**alert["labels"], "alert_type": "OPERATIONS", **labels}
        return {**alert, "labels": labels, "fingerprint": str(sorted(labels.items()))}

    payments = problem("ExporterDataStale", source="payments", instance="a:8000")
    payments["annotations"] = {"summary": "old", "runbook_url": "/runbooks/ExporterDataStale"}
    assert shop.outcomes(payments) == ["created"]
    others = [
        problem("ExporterDataStale", source="metric_platform", instance="a:8000"),
        problem("ExporterDataStale", source="payments", instance="b:8000"),
        problem("ExporterDown", instance="a:8000"),
    ]
    assert shop.outcomes(*others, payments, after=10 * MINUTE) == ["created", "created", "created", "session_updated"]
    assert [row["reason"] for row in shop.rows(notification)] == ["first"] * 4
    assert [row["content"]["runbook_url"] for row in shop.rows(notification)].count("/runbooks/ExporterDataStale") == 1


def test_bad_alerts_harm_no_other_and_are_logged(shop: Shop) -> None:
    nasty = firing("acc_002", name="nul\x00\ud800")
    late = {**firing("acc_003"), "startsAt": "yesterday"}
    assert shop.outcomes(nasty, 7, {"labels": {}}, late, firing()) == [
        "created",
        "rejected:the alert is not an object",
        "rejected:`startsAt` is not a time",
        "rejected:`startsAt` is not a time",
        "created",
    ]
    rows = shop.rows(alert_trigger_log)
    assert len(rows) == 5
    assert "yesterday" in next(row["verdict"]["raw"] for row in rows if "acc_003" in str(row["verdict"]))


def test_counters_add_up(shop: Shop) -> None:
    shop.deliver(firing(), firing(), 7, firing(status="resolved"))
    assert shop.count("sentinel_alerts_received") == 4
    by_outcome = {
        sample.labels["outcome"]: sample.value
        for metric in shop.registry.collect()
        for sample in metric.samples
        if sample.name == "sentinel_alert_outcomes_total"
    }
    assert by_outcome == {"created": 1, "duplicate": 1, "rejected": 1, "resolved": 1}


def test_eight_clients_deliver_the_same_new_alerts_at_once(shop: Shop) -> None:
    alerts = [firing(f"acc_{number:03}") for number in range(5)]
    barrier = threading.Barrier(8)

    def client() -> Changes:
        barrier.wait()
        return shop.deliver(*alerts)

    total = sum((changes.outcomes() for changes in in_parallel(8, client)), Counter())
    assert total == {"created": 5, "duplicate": 35}
    assert len(shop.rows(alert)) == 5
    assert [row["occurrence_count"] for row in shop.rows(alert_dynamic)] == [1] * 5
    assert len(shop.rows(notification)) == 5
    assert len(shop.rows(alert_trigger_log)) == 40


@pytest.mark.parametrize("processes", [1, 2])
def test_eight_clients_deliver_through_receivers_that_store_together(shop: Shop, processes: int) -> None:
    """Each receiver has a connection pool of its own, as each process has."""
    databases = [Database(shop.database.url.render_as_string(hide_password=False)) for _ in range(processes)]
    receivers = [Together(AlertStore(database), shop.settings, shop.metrics) for database in databases]
    alerts = [firing(f"acc_{number:03}") for number in range(5)]
    barrier = threading.Barrier(8)
    turns = iter(range(8))

    def client() -> Counter[str]:
        turn = next(turns)
        barrier.wait()
        own = firing(name=f"Rule{turn}", account="acc_007")
        answers = [
            receivers[turn % processes].ingest(parse_payload({"alerts": [*alerts, own]}), shop.now) for _ in range(5)
        ]
        assert all([entry.received.item for entry in answer.entries] == parse_payload({"alerts": [*alerts, own]})
                   for answer in answers)  # fmt: skip
        return sum((Counter(entry.label for entry in answer.entries) for answer in answers), Counter())

    total = sum(in_parallel(8, client), Counter())
    for database in databases:
        database.close()
    assert total == {"created": 6, "session_updated": 7, "duplicate": 227}
    counts = {row["alert_id"]: row["occurrence_count"] for row in shop.rows(alert_dynamic)}
    assert sorted(counts.values()) == [1, 1, 1, 1, 1, 8]
    assert len(shop.rows(notification)) == 6
    logged = shop.rows(alert_trigger_log)
    assert Counter(row["outcome"] for row in logged) == total
    assert shop.count("sentinel_alerts_received") == len(logged) == 240
    assert {kind: shop.count("sentinel_alert_outcomes", outcome=kind) for kind in total} == total


def test_eight_clients_repeat_one_occurrence_and_bring_eight_instances(shop: Shop) -> None:
    shop.deliver(firing())
    shop.now += 5 * MINUTE
    barrier = threading.Barrier(8)
    numbers = iter(range(8))

    def client() -> Changes:
        own = firing(name=f"Rule{next(numbers)}")
        barrier.wait()
        return shop.deliver(firing(), own)

    results = in_parallel(8, client)
    total = sum((changes.outcomes() for changes in results), Counter())
    assert total == {"session_updated": 9, "duplicate": 7}
    (state,) = shop.rows(alert_dynamic)
    assert (state["occurrence_count"], state["current_severity"]) == (10, "P2")


def test_a_resolve_by_a_person_meets_deliveries(shop: Shop) -> None:
    (entry,) = shop.deliver(firing()).entries
    alert_id = entry.alert_id or ""
    shop.now += 5 * MINUTE
    barrier = threading.Barrier(8)
    turns = iter(range(8))

    def client() -> Acted | Changes:
        turn = next(turns)
        barrier.wait()
        if turn == 0:
            return shop.actions.resolve(alert_id, "", by("ana", shop.now))
        return shop.deliver(firing())

    in_parallel(8, client)
    (state,) = shop.rows(alert_dynamic)
    assert state["status"] == "RESOLVED"
    assert state["occurrence_count"] in (1, 2)


def in_parallel(threads: int, work: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - told by the test's thread
            errors.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return results
