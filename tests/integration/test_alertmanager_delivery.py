"""The production routes and inhibition, with shorter times, in a real Alertmanager."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from alert_receiver import Alertmanager, Receiver, recording_receiver
from servers import wait_for

from demo.derive import derive

ROOT = Path(__file__).resolve().parents[2]
SPEED = 150.0  # a group is flushed every 2 s, an urgent one every second
FLUSH_S = 300 / SPEED


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with recording_receiver() as recording:
        yield recording


@pytest.fixture
def alertmanager(run_alertmanager: Callable[..., str], receiver: Receiver, tmp_path: Path) -> Alertmanager:
    token = tmp_path / "ingest_token"
    token.write_text("s3cret\n")
    derive(ROOT, tmp_path, speed=SPEED, scale_ranges=False, webhook_url=receiver.url, credentials_file=token)
    return Alertmanager(run_alertmanager(tmp_path / "alertmanager.yml"))


def alert(name: str, severity: str, account: str = "acc_017", alert_type: str = "CARD_TESTING") -> dict[str, str]:
    return {"alertname": name, "severity": severity, "account_id": account, "alert_type": alert_type}


DETECTED = alert("Detected", "P3")
SEVERE = alert("Severe", "P2")
CRITICAL = alert("Critical", "P1")
STEADY = alert("Steady", "none")  # in the group of DETECTED, inhibited by nothing: its repeats show the flushes


def flushed_twice(receiver: Receiver) -> None:
    """The group of STEADY has been flushed, wholly after now."""
    for _ in range(2):
        receiver.wait_for("Steady", "firing", after=time.monotonic())


def test_the_token_is_sent_and_urgent_alerts_say_so(alertmanager: Alertmanager, receiver: Receiver) -> None:
    alertmanager.post(
        alert("Severe", "P2", "acc_001"), alert("Critical", "P1", "acc_002"), alert("Fatal", "P0", "acc_003")
    )
    severe, critical, fatal = (receiver.wait_for(name, "firing") for name in ("Severe", "Critical", "Fatal"))
    assert severe.path == "/api/v1/alerts/prometheus/webhook"
    assert critical.path == fatal.path == "/api/v1/alerts/prometheus/webhook?priority=urgent"
    assert {each.authorization for each in receiver.deliveries} == {"Bearer s3cret"}
    assert severe.payload["groupLabels"] == {"account_id": "acc_001", "alert_type": "CARD_TESTING"}


def test_a_firing_alert_is_heard_of_at_every_flush(alertmanager: Alertmanager, receiver: Receiver) -> None:
    alertmanager.post(DETECTED)
    wait_for(lambda: len(receiver.deliveries) >= 4, what="three repeats")
    times = [each.received_at for each in receiver.of("Detected", "firing")]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(0.9 * FLUSH_S < gap < 1.7 * FLUSH_S for gap in gaps), gaps


def test_of_one_attack_only_the_highest_severity_is_delivered(alertmanager: Alertmanager, receiver: Receiver) -> None:
    fatal = alert("Fatal", "P0", "acc_018")
    alertmanager.post(CRITICAL, fatal)
    receiver.wait_for("Critical", "firing")
    receiver.wait_for("Fatal", "firing")
    alertmanager.post(
        SEVERE,
        DETECTED,
        *(alert(f"Inhibited{severity}", severity, "acc_018") for severity in ("P1", "P2", "P3")),
        alert("OtherAccount", "P3", "acc_099"),
        alert("OtherType", "P3", alert_type="BLOCK_SURGE"),
    )
    receiver.wait_for("OtherAccount", "firing")
    receiver.wait_for("OtherType", "firing")
    since = time.monotonic()
    for name in ("OtherAccount", "Critical", "Fatal"):
        receiver.wait_for(name, "firing", after=since)  # every group has been flushed since
    delivered = {each["labels"]["alertname"] for delivery in receiver.deliveries for each in delivery.alerts}
    assert delivered == {"Critical", "Fatal", "OtherAccount", "OtherType"}
    (inhibited,) = alertmanager.knows("InhibitedP3")
    assert inhibited["status"]["state"] == "suppressed"


def test_what_was_held_back_is_delivered_when_the_higher_severity_has_ended(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    alertmanager.post(CRITICAL)
    receiver.wait_for("Critical", "firing")
    alertmanager.post(DETECTED)
    alertmanager.post(CRITICAL, resolved=True)
    receiver.wait_for("Critical", "resolved")
    receiver.wait_for("Detected", "firing")


def test_operations_alerts_are_grouped_by_what_is_wrong_and_inhibit_nothing(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    def operations(name: str, severity: str, **labels: str) -> dict[str, str]:
        return {"alertname": name, "severity": severity, "alert_type": "OPERATIONS", **labels}

    alertmanager.post(
        operations("ExporterDown", "P2", instance="a:8000"),
        operations("ExporterDown", "P2", instance="b:8000"),
        operations("ExporterDataStale", "P3", source="payments"),
        operations("ExporterDataStale", "P3", source="metric_platform"),
    )
    wait_for(lambda: len({each.payload["groupKey"] for each in receiver.deliveries}) == 3, what="three groups")
    assert len(receiver.wait_for("ExporterDown", "firing").alerts) == 2
    stale = [each for delivery in receiver.of("ExporterDataStale", "firing") for each in delivery.alerts]
    assert {each["labels"]["source"] for each in stale} == {"payments", "metric_platform"}


@pytest.mark.parametrize("higher", [SEVERE, CRITICAL], ids=["in the same group", "in the urgent group"])
def test_both_resolves_arrive_when_both_end_together(
    alertmanager: Alertmanager, receiver: Receiver, higher: dict[str, str]
) -> None:
    alertmanager.post(DETECTED)
    receiver.wait_for("Detected", "firing")
    alertmanager.post(higher)
    receiver.wait_for(higher["alertname"], "firing")
    alertmanager.post(DETECTED, higher, resolved=True)
    receiver.wait_for(higher["alertname"], "resolved")
    receiver.wait_for("Detected", "resolved")


@pytest.mark.parametrize("higher", [SEVERE, CRITICAL], ids=["in the same group", "in the urgent group"])
def test_the_resolve_of_an_inhibited_alert_that_ends_first_never_arrives(
    alertmanager: Alertmanager, receiver: Receiver, higher: dict[str, str]
) -> None:
    """Unless it is sent again. So the webhook's sweep asks Alertmanager what still fires (docs/rules.md)."""
    alertmanager.post(DETECTED, STEADY)
    receiver.wait_for("Detected", "firing")
    alertmanager.post(higher)
    receiver.wait_for(higher["alertname"], "firing")
    alertmanager.post(DETECTED, resolved=True)
    flushed_twice(receiver)
    alertmanager.post(higher, resolved=True)
    receiver.wait_for(higher["alertname"], "resolved")
    flushed_twice(receiver)
    assert receiver.of("Detected", "resolved") == []
    assert alertmanager.knows("Detected") == []
