"""Where the links of alerts lead that Prometheus sends, started as compose.yaml starts it."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import servers
import yaml
from stub_server import StubServer, body_of, respond

ROOT = Path(__file__).resolve().parents[2]


class Taker(StubServer):
    """An Alertmanager that keeps what it is sent."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.alerts += json.loads(body_of(request))
        respond(request, 200, b"")


def flags() -> list[str]:
    command = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["prometheus"]["command"]
    asked = {"--web.external-url", "--web.route-prefix", "--enable-feature"}
    given = dict(flag.split("=", 1) for flag in command if flag.partition("=")[0] in asked)
    assert set(given) == asked
    given["--web.external-url"] = "https://here.example.com/prom"
    # What is sent before it has found Alertmanager is sent again after a minute otherwise.
    given["--rules.alert.resend-delay"] = "1s"
    return [f"{name}={value}" for name, value in given.items()]


@pytest.mark.parametrize("pages", ["https://sentinel.example.com", ""])
def test_a_link_to_a_runbook_is_whole_and_no_label_of_the_alert(
    pages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting it is a path, which the webhook makes a link of its own."""
    monkeypatch.setenv("SENTINEL_PUBLIC_URL", pages)
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    rules = yaml.safe_load((ROOT / "prometheus" / "rules" / "prometheus.yml").read_text())
    (group,) = [each for each in rules["groups"] if "Watchdog" in str(each)]
    group["interval"] = "1s"
    with Taker() as taker:
        target = {"static_configs": [{"targets": [urlsplit(taker.url).netloc]}]}
        config |= {"scrape_configs": [], "rule_files": ["rules.yml"]}
        config["alerting"]["alertmanagers"] = [target]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
        with servers.prometheus(tmp_path / "prometheus.yml", *flags()) as url:
            servers.wait_for(lambda: taker.alerts, what="an alert")
            assert requests.get(f"{url}/api/v1/rules", timeout=60).json()["status"] == "success", "at the root"
    alert = taker.alerts[0]
    assert alert["labels"] == {"alertname": "Watchdog", "severity": "none", "team": "platform"}
    assert alert["annotations"]["runbook_url"] == f"{pages}/runbooks/Watchdog"
    assert alert["generatorURL"].startswith("https://here.example.com/prom/graph?")
