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
OF_TEAMS = ("team-analysts", "team-data", "team-platform")
OF_PEOPLE = {DIRECT, *OF_TEAMS}

FAILED = "alertname=AlertmanagerNotificationsFailed severity=P1 alert_type=OPERATIONS team=platform"

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
    # and by team: each, and then as without one
    "severity=P1 alert_type=OPERATIONS team=analysts": f"team-analysts,{DIRECT},{OPERATIONS_URGENT}",
    "severity=P2 alert_type=OPERATIONS team=analysts": f"team-analysts,{OPERATIONS}",
    "severity=P3 alert_type=OPERATIONS team=analysts": f"team-analysts,{OPERATIONS}",
    "severity=P1 alert_type=OPERATIONS team=data": f"team-data,{DIRECT},{OPERATIONS_URGENT}",
    "severity=P2 alert_type=OPERATIONS team=data source=payments": f"team-data,{OPERATIONS}",
    "severity=P3 alert_type=OPERATIONS team=data source=payments": f"team-data,{OPERATIONS}",
    "severity=P0 alert_type=OPERATIONS team=platform": f"team-platform,{DIRECT},{OPERATIONS_URGENT}",
    "severity=P2 alert_type=OPERATIONS team=platform alertname=OutboxBacklog": f"team-platform,{DIRECT},{OPERATIONS}",
    "severity=P3 alert_type=OPERATIONS team=platform": f"team-platform,{OPERATIONS}",
    "severity=P1 alert_type=OPERATIONS team=nobodys": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P1 account_id=acc_017 alert_type=CARD_TESTING team=data": URGENT,
    # that Slack fails is not told to Slack
    f"{FAILED} integration=slack": OPERATIONS_URGENT,
    f"{FAILED} integration=webhook": f"team-platform,{DIRECT},{OPERATIONS_URGENT}",
    # the one that always fires
    "alertname=Watchdog severity=none team=platform": "heartbeat",
    "alertname=Watchdog severity=none": "nobody",
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
    operations = model["route"]["routes"][2]
    operations["routes"] = [*yaml.safe_load(example), *operations["routes"]]
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
    direct = " ".join(
        each
        for route in routes(MODEL["route"])
        if 'severity="P2"' in route.get("matchers", ())
        for each in route["matchers"]
    )
    (names,) = re.findall(r"alertname=~\"([\w|]+)\"", direct)
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


def with_receivers(route: dict[str, Any], receiver: str = "", repeat: str = "") -> Iterator[tuple[str, str]]:
    """Receiver of each route and what it repeats after, as inherited."""
    receiver, repeat = route.get("receiver", receiver), route.get("repeat_interval", repeat)
    yield receiver, repeat
    for child in route.get("routes", ()):
        yield from with_receivers(child, receiver, repeat)


def test_every_route_to_the_webhook_repeats_as_a_heartbeat_and_none_to_people() -> None:
    """Of the webhook it is the root's one time: tests/unit/test_rules.py looks at it."""
    repeats = set(with_receivers(MODEL["route"]))
    assert {repeat for receiver, repeat in repeats if receiver.startswith("sentinel-")} == {"4m45s"}
    assert {each for each in repeats if each[0] in OF_PEOPLE} == {(name, "4h") for name in OF_PEOPLE}
    assert len({receiver for receiver, _ in repeats}) == len(MODEL["receivers"])


def test_people_get_one_message_for_all_that_is_wrong_in_the_same_way() -> None:
    told = [route for route in routes(MODEL["route"]) if route.get("receiver") in OF_PEOPLE]
    assert {(*route["group_by"], route["group_interval"]) for route in told} == {("alertname", "5m")}


def test_teams_of_the_rules_are_those_that_have_a_route_and_lose_nothing_else() -> None:
    files = (CONFIG.parents[1] / "prometheus" / "rules").glob("*.yml")
    rules = [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    teams = {rule["labels"]["team"] for rule in rules if rule.get("labels", {}).get("alert_type") == "OPERATIONS"}
    of_teams = [route for route in routes(MODEL["route"]) if route.get("receiver") in OF_TEAMS]
    assert {(f'team="{team}"', f"team-{team}", True) for team in teams} == {
        (*route["matchers"], route["receiver"], route["continue"]) for route in of_teams
    }


def test_only_operations_alerts_of_the_lowest_severity_are_ever_muted() -> None:
    (watchdog, other_watchdogs, operations, urgent) = MODEL["route"]["routes"]
    timed = [
        route["matchers"]
        for route in routes(operations)
        if {"mute_time_intervals", "active_time_intervals"} & set(route)
    ]
    assert timed == [['severity="P3"']] * (len(OF_TEAMS) + 1)
    for route in (MODEL["route"], watchdog, other_watchdogs, urgent):
        assert not {"mute_time_intervals", "active_time_intervals"} & set(route)
    assert operations["matchers"] == ['alert_type="OPERATIONS"']


def test_the_token_is_read_from_a_file_and_goes_nowhere_else() -> None:
    for receiver in (each for each in MODEL["receivers"] if each["name"].startswith("sentinel-")):
        for webhook in receiver.get("webhook_configs", ()):
            assert webhook["http_config"]["follow_redirects"] is False
            assert set(webhook["http_config"]["authorization"]) == {"type", "credentials_file"}
            assert webhook["send_resolved"] is True
    (heartbeat,) = next(each["webhook_configs"] for each in MODEL["receivers"] if each["name"] == "heartbeat")
    assert heartbeat["http_config"] == {"follow_redirects": False}
