"""Where the production configuration sends each kind of alert, as amtool reads it."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import program

CONFIG = Path(__file__).resolve().parents[2] / "alertmanager" / "alertmanager.yml"
MODEL: dict[str, Any] = yaml.safe_load(CONFIG.read_text())

USUAL, URGENT = "sentinel-webhook", "sentinel-webhook-urgent"
OPERATIONS, OPERATIONS_URGENT, DIRECT = "sentinel-operations", "sentinel-operations-urgent", "oncall-direct"

RECEIVERS = {
    # of merchants, by severity
    "severity=P0 account_id=acc_017 alert_type=CARD_TESTING": URGENT,
    "severity=P1 account_id=acc_017 alert_type=CARD_TESTING": URGENT,
    "severity=P2 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=P3 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=P10 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=p1 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "account_id=acc_017": USUAL,
    "severity=P1 account_id=acc_017": URGENT,
    "alertname=SomebodysOwn": USUAL,
    "alertname=SomebodysOwn severity=P0": URGENT,
    # of operations, by severity and by what may keep the webhook from telling
    "severity=P0 alert_type=OPERATIONS": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P1 alert_type=OPERATIONS alertname=WebhookDown": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P1 alert_type=OPERATIONS alertname=WorkerDown": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P2 alert_type=OPERATIONS alertname=OutboxBacklog": f"{DIRECT},{OPERATIONS}",
    "severity=P2 alert_type=OPERATIONS alertname=NotificationDeliveryFailure": f"{DIRECT},{OPERATIONS}",
    "severity=P2 alert_type=OPERATIONS alertname=CanaryNotDelivered": f"{DIRECT},{OPERATIONS}",
    "severity=P2 alert_type=OPERATIONS alertname=SourceAbsent": OPERATIONS,
    "severity=P3 alert_type=OPERATIONS alertname=OutboxBacklog": OPERATIONS,
    "severity=P3 alert_type=OPERATIONS source=payments": OPERATIONS,
    "alert_type=OPERATIONS": OPERATIONS,
    "severity=P2 account_id=acc_017 alert_type=CARD_TESTING alertname=OutboxBacklog": USUAL,
}


@pytest.mark.parametrize(("labels", "receivers"), RECEIVERS.items(), ids=RECEIVERS)
def test_routes(labels: str, receivers: str) -> None:
    assert routed(labels, CONFIG) == receivers


def routed(labels: str, file: Path) -> str:
    command = [program("amtool"), "config", "routes", "test", f"--config.file={file}", *labels.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_team_that_the_documentation_adds_hears_of_its_own_sources_too(tmp_path: Path) -> None:
    text = (CONFIG.parents[1] / "docs" / "rules.md").read_text()
    (example,) = [each for each in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "team-payments" in each]
    model = copy.deepcopy(MODEL)
    model["route"]["routes"][0]["routes"] = [*yaml.safe_load(example), *model["route"]["routes"][0]["routes"]]
    model["receivers"].append({"name": "team-payments"})
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(model))
    for labels, receivers in {
        "severity=P1 alert_type=OPERATIONS source=payments": f"team-payments,{DIRECT},{OPERATIONS_URGENT}",
        "severity=P3 alert_type=OPERATIONS source=payments": f"team-payments,{OPERATIONS}",
        "severity=P3 alert_type=OPERATIONS source=others": OPERATIONS,
        "severity=P3 account_id=acc_017 source=payments": USUAL,
    }.items():
        assert routed(labels, file) == receivers


def test_what_goes_another_way_by_name_is_a_rule_of_that_severity() -> None:
    """A rule that is renamed would silently lose its second way."""
    (names,) = re.findall(r"alertname=~\"([\w|]+)\"", CONFIG.read_text())
    severities = {
        rule["alert"]: rule["labels"]["severity"]
        for file in (CONFIG.parents[1] / "prometheus" / "rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert {name: severities.get(name) for name in names.split("|")} == dict.fromkeys(names.split("|"), "P2")


def routes(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield of
    for child in of.get("routes", ()):
        yield from routes(child)


def test_every_route_repeats_as_a_heartbeat() -> None:
    """The one time of the root: tests/unit/test_rules.py looks at it."""
    assert [route["repeat_interval"] for route in routes(MODEL["route"]) if "repeat_interval" in route] == ["4m45s"]


def test_only_operations_alerts_of_the_lowest_severity_are_ever_muted() -> None:
    (operations, urgent) = MODEL["route"]["routes"]
    timed = [
        route["matchers"]
        for route in routes(operations)
        if {"mute_time_intervals", "active_time_intervals"} & set(route)
    ]
    assert timed == [['severity="P3"']]
    for route in (MODEL["route"], urgent):
        assert not {"mute_time_intervals", "active_time_intervals"} & set(route)
    assert operations["matchers"] == ['alert_type="OPERATIONS"']


def test_the_token_is_read_from_a_file_and_goes_nowhere_else() -> None:
    for receiver in MODEL["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            assert webhook["http_config"]["follow_redirects"] is False
            assert set(webhook["http_config"]["authorization"]) == {"type", "credentials_file"}
            assert webhook["send_resolved"] is True
