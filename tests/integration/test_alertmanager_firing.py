"""What a real Alertmanager holds as firing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests
import servers
from fakes_llm import LlmStub, failure, raw
from servers import wait_for
from stub_server import StubServer, respond, respond_json

from webhook.adapters.alertmanager import AlertmanagerFiring, FiringAnywhere
from webhook.ports import HistoryUnavailable

CONFIG = """\
route: {receiver: nobody, group_wait: 0s}
receivers: [{name: nobody}]
inhibit_rules:
  - source_matchers: [severity="P0"]
    target_matchers: [severity="P2"]
    equal: [account_id]
"""
NONE = timedelta(0)


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("alertmanager") / "alertmanager.yml"
    config.write_text(CONFIG)
    with servers.alertmanager(config) as url:
        yield url


def post(url: str, **labels: str) -> None:
    now = datetime.now(UTC)
    ends = labels.pop("ends", "")
    alert: dict[str, Any] = {
        "labels": {"alertname": "CardTesting", **labels},
        "startsAt": (now - timedelta(minutes=5)).isoformat(),
        "endsAt": ends or (now + timedelta(minutes=5)).isoformat(),
    }
    requests.post(f"{url}/api/v2/alerts", json=[alert], timeout=30).raise_for_status()


def held(url: str) -> dict[tuple[str, str], dict[str, Any]]:
    alerts = requests.get(f"{url}/api/v2/alerts", timeout=30).json()
    return {(a["labels"]["account_id"], a["labels"]["severity"]): a for a in alerts}


def test_silenced_and_inhibited_alerts_fire_too_and_resolved_ones_do_not(alertmanager: str) -> None:
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "account_id", "value": "quiet", "isRegex": False}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "test",
    }
    requests.post(f"{alertmanager}/api/v2/silences", json=silence, timeout=30).raise_for_status()
    post(alertmanager, account_id="loud", severity="P0")
    post(alertmanager, account_id="loud", severity="P2")
    post(alertmanager, account_id="quiet", severity="P1")
    post(alertmanager, account_id="over", severity="P1")
    fingerprints = {key: alert["fingerprint"] for key, alert in held(alertmanager).items()}
    post(alertmanager, account_id="over", severity="P1", ends=(now - timedelta(seconds=1)).isoformat())

    def suppressed() -> bool:
        states = {key: alert["status"]["state"] for key, alert in held(alertmanager).items()}
        return states.get(("loud", "P2")) == states.get(("quiet", "P1")) == "suppressed"

    wait_for(suppressed, what="inhibition and silence")
    source = AlertmanagerFiring(alertmanager, timeout=60, warm_up=NONE)
    firing = source.firing()
    source.close()
    expected = {fingerprints[key] for key in (("loud", "P0"), ("loud", "P2"), ("quiet", "P1"))}
    assert firing & set(fingerprints.values()) == expected


def test_an_end_that_has_passed_is_no_firing(alertmanager: str) -> None:
    post(alertmanager, account_id="a", severity="P1")
    in_10_minutes = datetime.now(UTC) + timedelta(minutes=10)
    later = AlertmanagerFiring(alertmanager, timeout=60, warm_up=NONE, clock=lambda: in_10_minutes)
    assert later.firing() == frozenset()
    later.close()


def test_one_that_has_just_started_is_not_believed(alertmanager: str) -> None:
    """Its memory is empty until Prometheus has sent everything again: that is no end of any attack."""
    source = AlertmanagerFiring(alertmanager, timeout=60, warm_up=timedelta(hours=1))
    with pytest.raises(HistoryUnavailable, match="just started"):
        source.firing()
    source.close()


def test_of_several_each_is_asked_and_all_must_answer(alertmanager: str, free_port: Callable[[], int]) -> None:
    post(alertmanager, account_id="here", severity="P1")
    wait_for(lambda: held(alertmanager), what="the alert")
    here = AlertmanagerFiring(alertmanager, timeout=60, warm_up=NONE)
    away = AlertmanagerFiring(f"http://127.0.0.1:{free_port()}", warm_up=NONE)
    assert FiringAnywhere([here, here]).firing() == here.firing() != frozenset()
    with pytest.raises(HistoryUnavailable):
        FiringAnywhere([here, away]).firing()
    FiringAnywhere([here, away]).close()


class Counting(StubServer):
    """As an Alertmanager with receiver-name-in-metrics, which has given up deliveries."""

    def __init__(self, **given_up: int) -> None:
        self.given_up = given_up

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path != "/metrics":
            respond_json(request, 200, {"uptime": "2026-01-01T00:00:00Z"})
            return
        lines = [
            f'alertmanager_notifications_failed_total{{integration="webhook",receiver_name="{name}"}} {count}'
            for name, count in self.given_up.items()
        ]
        text = "# TYPE alertmanager_notifications_failed_total counter\n" + "\n".join(lines) + "\n"
        respond(request, 200, text.encode(), {"Content-Type": "text/plain"})


def test_a_heartbeat_that_fails_is_no_delivery_that_was_given_up() -> None:
    """Reconciliation would take what Alertmanager holds back on purpose for missed, again and again."""

    def mark(**given_up: int) -> str:
        with Counting(**given_up) as stub:
            source = AlertmanagerFiring(stub.url, timeout=60)
            try:
                return source.mark()
            finally:
                source.close()

    quiet = {"sentinel-webhook": 1, "sentinel-operations": 0}
    assert mark(**quiet, heartbeat=7) == mark(**quiet, heartbeat=0)
    assert mark(**quiet, heartbeat=7) != mark(**{**quiet, "sentinel-operations": 1}, heartbeat=7)


def test_nobody_listening_is_unavailable(free_port: Callable[[], int]) -> None:
    source = AlertmanagerFiring(f"http://127.0.0.1:{free_port()}", warm_up=NONE)
    with pytest.raises(HistoryUnavailable):
        source.firing()
    source.close()


@pytest.mark.parametrize("answer", [failure(503), raw(b"<html>"), raw(b"[]"), None])
def test_a_password_in_the_address_is_told_to_nobody(
    answer: Callable[..., None] | None, free_port: Callable[[], int]
) -> None:
    with LlmStub(answers=[answer] if answer else []) as stub:
        url = stub.url if answer else f"http://127.0.0.1:{free_port()}"
        source = AlertmanagerFiring(url.replace("http://", "http://user:S3CRET@"), warm_up=NONE)
        with pytest.raises(HistoryUnavailable) as caught:
            source.firing()
        source.close()
    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
