"""What goes from Alertmanager to people and to a heartbeat outside, as start.sh starts it, with shorter times."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import servers
import yaml
from alert_receiver import Alertmanager, Receiver, recording_receiver
from servers import wait_for
from stub_server import StubServer, body_of, respond

FOLDER = Path(__file__).resolve().parents[2] / "alertmanager"
SHORTER = {
    "repeat_interval: 4m45s": "repeat_interval: 950ms",
    "repeat_interval: 50s": "repeat_interval: 950ms",
    "group_interval: 5m": "group_interval: 1s",
    "group_interval: 1m": "group_interval: 1s",
    "group_wait: 30s": "group_wait: 0s",
}
OPTIONAL = ("oncall_slack_url", "team_analysts_slack_url", "team_data_slack_url", "team_platform_slack_url")


@dataclass
class Incoming(StubServer):
    """Slack's side of an incoming webhook, of which Alertmanager sends attachments."""

    attachments: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: Any) -> None:
        self.attachments += json.loads(body_of(request))["attachments"]
        respond(request, 200, b"ok", {"Content-Type": "text/html"})


def written(folder: Path, secrets: Mapping[str, str], *replaced: tuple[str, str]) -> tuple[Path, str]:
    """What start.sh makes of the production files, and what it says."""
    for name in ("secrets", "written"):
        (folder / name).mkdir()
    shutil.copytree(FOLDER, folder / "config")
    for name, text in secrets.items():
        (folder / "secrets" / name).write_text(text)
    config = folder / "config" / "alertmanager.yml"
    text = config.read_text().replace("/etc/alertmanager/secrets", str(folder / "secrets"))
    for old, new in replaced:
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    places = {"CONFIG": "config", "SECRETS": "secrets", "WRITTEN": "written"}
    environment = {**os.environ, **{name: str(folder / place) for name, place in places.items()}}
    done = subprocess.run(["sh", str(FOLDER / "start.sh")], env=environment, check=True, capture_output=True, text=True)
    return folder / "written" / "alertmanager.yml", done.stderr


@contextmanager
def started(folder: Path, receiver: Receiver, secrets: Mapping[str, str]) -> Iterator[Alertmanager]:
    webhook = receiver.url.removesuffix("/api/v1/alerts/prometheus/webhook")
    replaced = [*SHORTER.items(), ("http://webhook:8080", webhook)]
    file, _ = written(folder, {"ingest_token": "s3cret", **secrets}, *replaced)
    with servers.alertmanager(file) as url:
        yield Alertmanager(url)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with recording_receiver() as recording:
        yield recording


def operations(name: str, severity: str, team: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "alert_type": "OPERATIONS", "team": team, **labels}


def test_a_person_is_told_once_of_all_that_is_wrong_while_the_webhook_hears_of_it_again_and_again(
    receiver: Receiver, tmp_path: Path
) -> None:
    link = "https://sentinel.example.com/runbooks/MetricPullLagTooLong"
    names = [f"source_{number:03}" for number in range(12)]
    with (
        Incoming() as oncall,
        Incoming() as data,
        started(tmp_path, receiver, {"oncall_slack_url": oncall.url, "team_data_slack_url": data.url}) as alertmanager,
    ):
        alerts = [operations("MetricPullLagTooLong", "P1", "data", source=name) for name in names]
        alertmanager.post(*alerts, summary="<Nothing> & nobody", description="It hangs.", runbook_url=link)
        for slack in (oncall, data):
            wait_for(lambda slack=slack: any("12 in all" in each["text"] for each in slack.attachments), what="all")
        told = len(oncall.attachments), len(data.attachments)
        heard = len(receiver.of("MetricPullLagTooLong", "firing"))
        wait_for(lambda: len(receiver.of("MetricPullLagTooLong", "firing")) >= heard + 48, what="4 repeats of each")
        assert (len(oncall.attachments), len(data.attachments)) == told
        for slack in (oncall, data):
            said = slack.attachments[-1]
            assert said["title"] == "[FIRING] MetricPullLagTooLong P1, team data"
            assert said["text"].count("&lt;Nothing&gt; &amp; nobody: It hangs.") == 10
            first, second = said["text"].splitlines()[-2:]
            assert first.startswith("*What to do*: the source's line on the exporter's status page;")
            assert second == (
                f"Runbook: <{link}|MetricPullLagTooLong>, or docs/runbooks/MetricPullLagTooLong.md in the repository"
            )


def test_without_addresses_nothing_fails_and_the_webhook_hears_of_all(receiver: Receiver, tmp_path: Path) -> None:
    with started(tmp_path, receiver, {"oncall_slack_url": "\n"}) as alertmanager:
        alertmanager.post(
            operations("WebhookDown", "P1", "platform"),
            {"alertname": "Watchdog", "severity": "none", "team": "platform"},
        )
        for _ in range(3):
            receiver.wait_for("WebhookDown", "firing", after=receiver.wait_for("WebhookDown", "firing").received_at)
        metrics = requests.get(f"{alertmanager.url}/metrics", timeout=60).text
        # tried: one that fails is tried for long before it is counted as failed
        assert 'alertmanager_notifications_total{integration="slack"} 0' in metrics.splitlines()
        assert receiver.of("Watchdog", "firing") == []


def test_the_watchdog_goes_out_again_and_again_and_never_to_the_webhook(receiver: Receiver, tmp_path: Path) -> None:
    with recording_receiver() as outside:
        address = f"{outside.url}?uuid=a&grace=1|2"
        with started(tmp_path, receiver, {"heartbeat_url": f"{address}\n"}) as alertmanager:
            alertmanager.post(
                {"alertname": "Watchdog", "severity": "none", "team": "platform"},
                operations("SourceEmpty", "P2", "data", source="payments"),
            )
            wait_for(lambda: len(outside.of("Watchdog", "firing")) >= 3, what="three beats")
            receiver.wait_for("SourceEmpty", "firing")
        assert receiver.of("Watchdog", "firing") == []
        assert {each.path.partition("?")[2] for each in outside.deliveries} <= {
            "uuid=a&grace=1|2",
            "uuid=a&grace=1%7C2",
        }
        assert {each.authorization for each in outside.deliveries} == {""}


def test_what_has_no_address_is_left_out_and_said(tmp_path: Path) -> None:
    file, said = written(tmp_path, {"team_data_slack_url": "https://slack.example.com/x", "heartbeat_url": " \n"})
    subprocess.run([servers.program("amtool"), "check-config", str(file)], check=True, capture_output=True)
    model, before = (yaml.safe_load(path.read_text()) for path in (file, FOLDER / "alertmanager.yml"))
    assert model["route"] == before["route"]
    assert [each["name"] for each in model["receivers"]] == [each["name"] for each in before["receivers"]]
    empty = {each["name"] for each in model["receivers"] if set(each) == {"name"}}
    assert empty == {"nobody", "oncall-direct", "team-analysts", "team-platform", "heartbeat"}
    assert [line.partition(": ")[2] for line in said.splitlines()] == [
        f"{tmp_path}/secrets/{name} is missing, empty or not one address: {what}"
        for name, what in (
            ("oncall_slack_url", "nobody hears that the webhook is down"),
            ("team_analysts_slack_url", "that team has no channel of its own"),
            ("team_platform_slack_url", "that team has no channel of its own"),
            ("heartbeat_url", "nobody hears that Prometheus or Alertmanager is down"),
        )
    ]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["hc-ping.com/abc", "https://a.example/x#y\nhttps://b.example", 'https://a.example/"x', "'"]
)
def test_what_is_no_address_keeps_nothing_else_from_starting(tmp_path: Path, text: str) -> None:
    file, said = written(tmp_path, {"heartbeat_url": text})
    subprocess.run([servers.program("amtool"), "check-config", str(file)], check=True, capture_output=True)
    assert "heartbeat_url is missing, empty or not one address" in said
    assert "example" not in said, "it may be a secret"


def test_what_has_ended_of_a_group_that_goes_on_is_told_apart(tmp_path: Path) -> None:
    def told(*statuses: str) -> str:
        alerts = [
            {"status": status, "labels": {}, "annotations": {"summary": f"<{number}>", "description": status}}
            for number, status in enumerate(statuses)
        ]
        group = {"status": statuses[0], "alerts": alerts, "groupLabels": {"alertname": "ExporterDown"}}
        (tmp_path / "data.json").write_text(json.dumps({**group, "receiver": "x", "externalURL": "http://a"}))
        command = ["template", "render", f"--template.glob={FOLDER}/*.tmpl", f"--template.data={tmp_path}/data.json"]
        text = '--template.text={{ template "oncall.text" . }}'
        return subprocess.run(
            [servers.program("amtool"), *command, text], check=True, capture_output=True, text=True
        ).stdout

    assert told("firing", "resolved", "firing").split("\n")[:3] == [
        "&lt;0&gt;: firing",
        "&lt;2&gt;: firing",
        "(1 ended)",
    ]
    assert told("resolved").split("\n")[0] == "&lt;0&gt;: resolved"
    assert "… 12 in all" in told(*["firing"] * 12)


def test_every_rule_that_goes_to_a_person_directly_has_words_for_what_to_do() -> None:
    (names,) = re.findall(r"^ +- alertname=~\"([\w|]+)\"$", (FOLDER / "alertmanager.yml").read_text(), re.MULTILINE)
    files = sorted((FOLDER.parent / "prometheus" / "rules").glob("*.yml"))
    rules = [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    operations = [rule for rule in rules if rule.get("labels", {}).get("alert_type") == "OPERATIONS"]
    gravest = {rule["alert"] for rule in operations if rule["labels"]["severity"] in ("P0", "P1")}
    words = re.findall(r'eq \. "(\w+)" }}(.{20,})$', (FOLDER / "oncall.tmpl").read_text(), re.MULTILINE)
    assert {name for name, _ in words} == gravest | set(names.split("|"))


def test_every_receiver_but_the_webhook_may_be_left_out() -> None:
    """One that is not would fail without its address, for ever."""
    text = (FOLDER / "alertmanager.yml").read_text()
    marked = text.partition("receivers:")[2].split("# with ")
    assert [part.split("\n")[0] for part in marked[1:]][1:] == [*OPTIONAL, "heartbeat_url"]
    for part in marked[2:]:
        assert part.index("# end") > part.index("_configs:")
