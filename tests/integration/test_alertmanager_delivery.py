"""The production routes and inhibition, with shorter times, in a real Alertmanager; each test has its own accounts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
import requests
import servers
from alert_receiver import Alertmanager, Receiver, recording_receiver
from servers import wait_for

from demo.derive import derive

ROOT = Path(__file__).resolve().parents[2]
SPEED = 150.0  # a group is flushed every 2 s, an urgent one every second


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with recording_receiver() as recording:
        yield recording


@pytest.fixture(scope="module")
def alertmanager(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    folder = tmp_path_factory.mktemp("alertmanager")
    token = folder / "ingest_token"
    token.write_text("s3cret\n")
    derive(ROOT, folder, speed=SPEED, scale_ranges=False, webhook_url=receiver.url, credentials_file=token)
    with servers.alertmanager(folder / "alertmanager.yml") as url:
        yield Alertmanager(url)


def alert(name: str, severity: str, account: str, alert_type: str = "CARD_TESTING") -> dict[str, str]:
    return {"alertname": name, "severity": severity, "account_id": account, "alert_type": alert_type}


def steady(account: str) -> dict[str, str]:
    """Of the group of P2 and P3, inhibited by nothing: its repeats show the flushes."""
    return alert("Steady", "none", account)


def flushed_twice(receiver: Receiver, account: str) -> None:
    """The group of `steady` has been flushed, wholly after now."""
    for _ in range(2):
        receiver.wait_for("Steady", "firing", account, after=time.monotonic())


def test_the_token_is_sent_and_urgent_alerts_say_so(alertmanager: Alertmanager, receiver: Receiver) -> None:
    alertmanager.post(alert("Mild", "P2", "acc_001"), alert("Urgent", "P1", "acc_002"), alert("Worst", "P0", "acc_003"))
    mild, urgent, worst = (receiver.wait_for(name, "firing") for name in ("Mild", "Urgent", "Worst"))
    assert mild.path == "/api/v1/alerts/prometheus/webhook"
    assert urgent.path == worst.path == "/api/v1/alerts/prometheus/webhook?priority=urgent"
    assert {each.authorization for each in receiver.deliveries} == {"Bearer s3cret"}
    assert mild.payload["groupLabels"] == {"account_id": "acc_001", "alert_type": "CARD_TESTING"}


def test_a_firing_alert_is_heard_of_again_and_again(alertmanager: Alertmanager, receiver: Receiver) -> None:
    """At every flush, as long as a repeat is due before it: tests/unit/test_rules.py looks at that."""
    alertmanager.post(alert("Repeated", "P3", "acc_010"))
    wait_for(lambda: len(receiver.of("Repeated", "firing")) >= 4, what="three repeats")


def test_of_one_attack_only_the_highest_severity_is_delivered(alertmanager: Alertmanager, receiver: Receiver) -> None:
    alertmanager.post(alert("Critical", "P1", "acc_020"), alert("Fatal", "P0", "acc_021"))
    receiver.wait_for("Critical", "firing", "acc_020")
    receiver.wait_for("Fatal", "firing", "acc_021")
    alertmanager.post(
        alert("Severe", "P2", "acc_020"),
        alert("Detected", "P3", "acc_020"),
        *(alert(f"Inhibited{severity}", severity, "acc_021") for severity in ("P1", "P2", "P3")),
        alert("OtherAccount", "P3", "acc_022"),
        alert("OtherType", "P3", "acc_020", alert_type="BLOCK_SURGE"),
    )
    receiver.wait_for("OtherAccount", "firing")
    receiver.wait_for("OtherType", "firing")
    since = time.monotonic()
    for name, account in (("OtherAccount", "acc_022"), ("Critical", "acc_020"), ("Fatal", "acc_021")):
        receiver.wait_for(name, "firing", account, after=since)  # every group has been flushed since
    delivered = {
        each["labels"]["alertname"]
        for delivery in receiver.deliveries
        for each in delivery.alerts
        if each["labels"].get("account_id") in ("acc_020", "acc_021", "acc_022")
    }
    assert delivered == {"Critical", "Fatal", "OtherAccount", "OtherType"}
    (inhibited,) = alertmanager.knows("InhibitedP3")
    assert inhibited["status"]["state"] == "suppressed"


def test_each_severity_holds_back_the_lesser_ones_of_its_own_attack_alone(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    """Every pair of severities, with accounts of their own; and those that are of no attack, or of no known one."""
    order = ("P0", "P1", "P2", "P3")
    pairs = list(combinations_with_replacement(order, 2))
    higher = [alert("Upper", upper, f"acc_{upper}{lower}") for upper, lower in pairs]
    lesser = [alert("Lower", lower, f"acc_{upper}{lower}") for upper, lower in pairs]
    free = [
        alert("OperationsUpper", "P1", "acc_070", alert_type="OPERATIONS"),
        alert("OperationsLower", "P3", "acc_070", alert_type="OPERATIONS"),
        {"alertname": "NoTypeUpper", "severity": "P0", "account_id": "acc_070"},
        {"alertname": "NoTypeLower", "severity": "P3", "account_id": "acc_070"},
        {"alertname": "NoAccountUpper", "severity": "P0", "alert_type": "CARD_TESTING"},
        {"alertname": "NoAccountLower", "severity": "P3", "alert_type": "CARD_TESTING"},
    ]
    alertmanager.post(*higher, *lesser, *free)
    inhibited = {f"acc_{upper}{lower}" for upper, lower in pairs if upper != lower}

    def held_back() -> set[str]:
        return {
            each["labels"].get("account_id", "")
            for each in requests.get(f"{alertmanager.url}/api/v2/alerts", timeout=60).json()
            if each["status"]["inhibitedBy"] and each["labels"]["alertname"].endswith(("Upper", "Lower"))
        }

    for labels in (*free, *(each for each in lesser if each["account_id"] not in inhibited)):
        receiver.wait_for(labels["alertname"], "firing", labels.get("account_id"))
    wait_for(lambda: held_back() == inhibited, what=f"{inhibited} are held back")


def test_what_was_held_back_is_delivered_when_the_higher_severity_has_ended(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    critical = alert("Critical", "P1", "acc_030")
    alertmanager.post(critical)
    receiver.wait_for("Critical", "firing", "acc_030")
    alertmanager.post(alert("Detected", "P3", "acc_030"))
    alertmanager.post(critical, resolved=True)
    receiver.wait_for("Critical", "resolved", "acc_030")
    receiver.wait_for("Detected", "firing", "acc_030")


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

    def groups(name: str) -> dict[str, set[str]]:
        """Instance or source of the alerts in each group of that name."""
        found: dict[str, set[str]] = {}
        for delivery in receiver.of(name, "firing"):
            told = {each["labels"].get("instance") or each["labels"]["source"] for each in delivery.alerts}
            found.setdefault(delivery.payload["groupKey"], set()).update(told)
        return found

    wait_for(lambda: list(groups("ExporterDown").values()) == [{"a:8000", "b:8000"}], what="one group of both")
    wait_for(lambda: len(groups("ExporterDataStale")) == 2, what="a group for each source")
    assert sorted(map(sorted, groups("ExporterDataStale").values())) == [["metric_platform"], ["payments"]]


def test_an_exporter_that_is_gone_speaks_for_its_sources_and_for_no_others(
    alertmanager: Alertmanager, receiver: Receiver
) -> None:
    def about(name: str, case: str, **labels: str) -> dict[str, str]:
        return {"alertname": name, "severity": "P2", "alert_type": "OPERATIONS", "case": case, **labels}

    alertmanager.post(
        about("ExporterDown", "", job="sharded", instance="a:8000"),
        about("ExporterAbsent", "", job="gone"),
        about("ExporterDown", "", instance="b:8000"),
        about("SourceAbsent", "held", job="sharded", source="payments"),
        about("ExporterShardMissing", "held", job="sharded"),
        about("SourceAbsent", "held", job="gone", source="payments"),
        about("MetricPullFailureRateHigh", "held", job="gone", source="payments"),
        # of another exporter, of another shard that is there, of no exporter, and about no source
        about("SourceAbsent", "free", job="other", source="payments"),
        about("ExporterSourceStopped", "free", job="sharded", source="payments"),
        about("SourceAbsent", "free", source="payments"),
        about("FraudMetricAbsent", "free", metric="sentinel_block_rate"),
        {**about("CardTestingDetected", "free", job="gone", source="payments"), "alert_type": "CARD_TESTING"},
    )

    def states() -> dict[str, set[bool]]:
        """Whether anything inhibits them, by case."""
        found: dict[str, set[bool]] = {}
        for each in requests.get(f"{alertmanager.url}/api/v2/alerts", timeout=60).json():
            if case := each["labels"].get("case"):
                found.setdefault(case, set()).add(bool(each["status"]["inhibitedBy"]))
        return found

    wait_for(lambda: states().get("held") == {True}, what="consequences are held back")
    for name in ("ExporterSourceStopped", "FraudMetricAbsent", "CardTestingDetected"):
        receiver.wait_for(name, "firing")
    assert states() == {"held": {True}, "free": {False}}


HIGHER = pytest.mark.parametrize("severity", ["P2", "P1"], ids=["in the same group", "in the urgent group"])


@HIGHER
def test_both_resolves_arrive_when_both_end_together(
    alertmanager: Alertmanager, receiver: Receiver, severity: str
) -> None:
    account = f"acc_04{severity}"
    lower, higher = alert("Detected", "P3", account), alert("Higher", severity, account)
    alertmanager.post(lower)
    receiver.wait_for("Detected", "firing", account)
    alertmanager.post(higher)
    receiver.wait_for("Higher", "firing", account)
    alertmanager.post(lower, higher, resolved=True)
    receiver.wait_for("Higher", "resolved", account)
    receiver.wait_for("Detected", "resolved", account)


@HIGHER
def test_the_resolve_of_an_inhibited_alert_that_ends_first_arrives_only_if_it_is_sent_again(
    alertmanager: Alertmanager, receiver: Receiver, severity: str
) -> None:
    """As Prometheus does for 15 minutes. After that the webhook's sweep asks what still fires (docs/rules.md)."""
    again, never = f"acc_05{severity}", f"acc_06{severity}"
    lower = {account: alert("Detected", "P3", account) for account in (again, never)}
    higher = {account: alert("Higher", severity, account) for account in (again, never)}
    alertmanager.post(*lower.values(), steady(again), steady(never))
    for account in lower:
        receiver.wait_for("Detected", "firing", account)
    alertmanager.post(*higher.values())
    for account in lower:
        receiver.wait_for("Higher", "firing", account)
    alertmanager.post(*lower.values(), resolved=True)
    for account in lower:
        flushed_twice(receiver, account)
    alertmanager.post(*higher.values(), resolved=True)

    def arrived() -> bool:
        alertmanager.post(lower[again], resolved=True)
        return bool(receiver.of("Detected", "resolved", again))

    wait_for(arrived, what="the resolve that is sent again", step=0.5)
    for account in lower:
        receiver.wait_for("Higher", "resolved", account)
        flushed_twice(receiver, account)
    assert receiver.of("Detected", "resolved", never) == []
    assert alertmanager.knows("Detected", never) == []
