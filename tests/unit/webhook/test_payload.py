from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.alert_type_settings import ConfigFile
from webhook.domain.alert import Trigger, TriggerStatus, condition_fingerprint
from webhook.domain.payload import PayloadError, Rejected, parse_payload
from webhook.domain.severity import Severity

ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "CardTestingDetected", "alert_type": "CARD_TESTING", "severity": "P2", "account_id": "acc"},
    "annotations": {
        "summary": "cards are tested",
        "runbook_url": "5",
        "block_rate": "0.35038363171355497",
        "transaction_count": "1200",
        "threshold_block_rate": "0.2",
        "odd": "NaN",
        "far": "+Inf",
        "huge": "1e999",
        "grouped": "1_000",
        "words": "many",
    },
    "startsAt": "2026-01-05T12:00:00.123456789+02:00",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "c0ffee",
}


def parse(alert: object, *, urgent: bool = False, status: str = "firing") -> Trigger:
    (parsed,) = parse_payload({"status": status, "alerts": [alert]}, urgent=urgent)
    assert isinstance(parsed, Trigger)
    return parsed


def labels(**changes: str | None) -> dict[str, Any]:
    merged = {**ALERT["labels"], **changes}
    return {**ALERT, "labels": {name: value for name, value in merged.items() if value is not None}}


def test_an_alert_is_read_in_full_precision() -> None:
    trigger = parse(ALERT)
    assert trigger.metrics == {"block_rate": 0.35038363171355497, "transaction_count": 1200.0}
    assert trigger.thresholds == {"block_rate": 0.2}
    assert trigger.starts_at == datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
    assert trigger.ends_at is None
    assert (trigger.account_id, trigger.alert_type, trigger.severity) == ("acc", "CARD_TESTING", Severity.P2)
    assert trigger.summary == "cards are tested"


def test_each_alerts_own_status_counts() -> None:
    assert parse({**ALERT, "status": "resolved"}).status is TriggerStatus.RESOLVED
    assert parse(ALERT, status="resolved").status is TriggerStatus.FIRING


def test_the_account_may_stand_in_the_annotations() -> None:
    alert = {**labels(account_id=None), "annotations": {"account_id": "acc_9"}}
    assert parse(alert).account_id == "acc_9"
    assert parse(labels(account_id=None)).account_id == "_operations"


@pytest.mark.parametrize(
    ("name", "alert_type"),
    [
        ("HighBlockRate", "HIGH_BLOCK_RATE"),
        ("HTTPErrors5xx", "HTTP_ERRORS5XX"),
        ("disk full!", "DISK_FULL"),
        ("---", "UNKNOWN"),
    ],
)
def test_without_alert_type_the_rule_names_it(name: str, alert_type: str) -> None:
    assert parse(labels(alert_type=None, alertname=name)).alert_type == alert_type


@pytest.mark.parametrize("severity", [None, "critical", ""])
def test_an_unknown_severity_is_p3(severity: str | None) -> None:
    assert parse(labels(severity=severity)).severity is Severity.P3


def test_urgent_raises_to_p1_and_lowers_nothing() -> None:
    assert parse(ALERT, urgent=True).severity is Severity.P1
    assert parse(labels(severity="P0"), urgent=True).severity is Severity.P0
    assert parse(ALERT, urgent=True).urgent


def test_without_fingerprint_the_labels_identify_the_alert() -> None:
    bare = {name: value for name, value in ALERT.items() if name != "fingerprint"}
    assert parse(bare).fingerprint == parse(dict(bare)).fingerprint
    assert parse(bare).fingerprint != parse({**bare, "labels": {"alertname": "Other"}}).fingerprint


@pytest.mark.parametrize(
    ("alert", "reason"),
    [
        (None, "not an object"),
        ({**ALERT, "labels": None}, "`labels`"),
        ({**ALERT, "startsAt": "soon"}, "`startsAt`"),
        ({**ALERT, "startsAt": 5}, "`startsAt`"),
        ({**ALERT, "startsAt": "0001-01-01T00:00:00+05:00"}, "`startsAt`"),
        (labels(account_id="x" * 256), "`account_id`"),
    ],
)
def test_what_cannot_be_understood_is_rejected_alone(alert: object, reason: str) -> None:
    first, bad, last = parse_payload({"alerts": [ALERT, alert, ALERT]})
    assert isinstance(bad, Rejected)
    assert reason in bad.reason
    assert first == last == parse(ALERT)


@pytest.mark.parametrize("payload", [None, [], "text", {}, {"alerts": {}}, {"alerts": None}])
def test_what_is_no_payload_is_refused(payload: object) -> None:
    with pytest.raises(PayloadError):
        parse_payload(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
alerts = json_values | st.fixed_dictionaries(
    {
        "labels": json_values | st.dictionaries(st.text(), st.text()),
        "startsAt": json_values | st.just(ALERT["startsAt"]),
    },
    optional=dict.fromkeys(("status", "annotations", "endsAt", "generatorURL", "fingerprint"), json_values),
)


@given(st.lists(alerts, max_size=4))
def test_whatever_arrives_each_alert_gets_an_answer_that_can_be_stored(received: list[object]) -> None:
    parsed = parse_payload({"alerts": received})
    assert len(parsed) == len(received)
    for item in parsed:
        if isinstance(item, Rejected):
            assert "\x00" not in item.raw.encode().decode()
            continue
        assert all(math.isfinite(value) for value in (*item.metrics.values(), *item.thresholds.values()))
        texts = [item.fingerprint, item.alert_name, item.alert_type, item.account_id, item.merchant_name]
        texts += [part for pair in (*item.labels.items(), *item.annotations.items()) for part in pair]
        assert all("\x00" not in text.encode().decode() for text in texts)
        assert len(item.fingerprint) <= 128
        assert len(item.alert_type) <= 64


GRAFANA = {
    "receiver": "sentinel",
    "status": "firing",
    "orgId": 1,
    "groupLabels": {"alertname": "HighBlockRate"},
    "truncatedAlerts": 0,
    "version": "1",
    "title": "[FIRING:1] HighBlockRate",
    "state": "alerting",
    "message": "**Firing**",
}
GRAFANA_ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "HighBlockRate", "account_id": "acc", "grafana_folder": "fraud"},
    "annotations": {"summary": "blocked", "B": "0.5"},
    "startsAt": "2026-01-05T12:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://grafana/alerting/grafana/uid/view",
    "fingerprint": "c6eadffa33fcdf37",
    "silenceURL": "http://grafana/silence",
    "dashboardURL": "",
    "panelURL": "http://grafana/panel",
    "imageURL": None,
    "values": {"A": 44.25, "B": 7, "C": None, "D": True, "E": 10**400},
    "valueString": "[ var='A' value=44.25 ]",
}


def of_grafana(**changes: object) -> Trigger:
    (trigger,) = parse_payload({**GRAFANA, "alerts": [{**GRAFANA_ALERT, **changes}]})
    assert isinstance(trigger, Trigger)
    return trigger


def test_values_and_links_of_grafana_are_kept() -> None:
    trigger = of_grafana()
    assert (trigger.source, trigger.account_id, trigger.alert_type) == ("grafana", "acc", "HIGH_BLOCK_RATE")
    assert trigger.metrics == {"A": 44.25, "B": 0.5}
    assert trigger.ends_at is None
    assert trigger.annotations == {
        "summary": "blocked",
        "B": "0.5",
        "silenceURL": "http://grafana/silence",
        "panelURL": "http://grafana/panel",
        "valueString": "[ var='A' value=44.25 ]",
    }


@pytest.mark.parametrize("values", [None, {}, [], "NaN", {"A": None}])
@pytest.mark.parametrize("name", ["DatasourceNoData", "DatasourceError"])
def test_a_data_source_in_trouble_is_a_matter_of_operations(name: str, values: object) -> None:
    labels = {"alertname": name, "rulename": "HighBlockRate", "account_id": "acc", "merchant_name": "Kahn"}
    trigger = of_grafana(labels=labels, values=values)
    assert (trigger.account_id, trigger.merchant_name, trigger.alert_type) == ("_operations", "", "OPERATIONS")
    assert trigger.metrics == {"B": 0.5}
    other = of_grafana(labels={**labels, "rulename": "Chargebacks"})
    fields = ConfigFile().types()["OPERATIONS"].fingerprint_fields
    assert condition_fingerprint(trigger, fields) != condition_fingerprint(other, fields)


def test_what_comes_from_alertmanager_says_so() -> None:
    assert parse(ALERT).source == "alertmanager"
    (rejected,) = parse_payload({**GRAFANA, "alerts": [1]})
    assert isinstance(rejected, Rejected)
    assert rejected.source == "grafana"


def test_first_releases_of_alertmanager_sent_no_fingerprint() -> None:
    old = {name: value for name, value in ALERT.items() if name != "fingerprint"}
    assert parse(old).key == parse(old).key
    assert parse(old).fingerprint != parse({**old, "labels": {**ALERT["labels"], "instance": "b"}}).fingerprint


def test_an_alert_that_is_nested_too_deeply_harms_no_other() -> None:
    deep: object = []
    for _ in range(2_000):
        deep = [deep]
    first, second, third = parse_payload({"alerts": [deep, {**ALERT, "labels": {"alertname": deep}}, ALERT]})
    assert isinstance(first, Rejected)
    assert isinstance(second, Rejected)
    assert isinstance(third, Trigger)
    assert first.reason == "the alert is nested too deeply"
