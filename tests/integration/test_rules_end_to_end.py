"""From an exposition to the webhook: the production rules and routes, with shorter times, in the real servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from alert_receiver import Alertmanager, Receiver, recording_receiver, serving
from servers import wait_for

from demo.derive import derive

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Exposition:
    address: str = ""
    text: str = ""

    def show(self, **merchants: tuple[float, float, float]) -> None:
        """Block rate, failed authorisation rate and number of transactions of each account."""
        self.text = "".join(
            f'sentinel_block_rate{{account_id="{account}",merchant_name="M. {account}",region="EU"}} {block!r}\n'
            f'sentinel_failed_auth_rate{{account_id="{account}",merchant_name="M. {account}"}} {failed!r}\n'
            f'sentinel_transaction_count{{account_id="{account}",merchant_name="M. {account}"}} {count!r}\n'
            for account, (block, failed, count) in merchants.items()
        )


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    exposed = Exposition()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposed.text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as exposed.address:
        yield exposed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with recording_receiver() as recording:
        yield recording


NOT_NESTED = """
groups:
  - name: one attack, seen by two rules of which neither implies the other
    interval: 1s
    rules:
      - alert: Lesser
        expr: max by (account_id) (sentinel_block_rate) > 0.9
        labels: {alert_type: OF_TWO_RULES, severity: P3}
      - alert: Greater
        expr: max by (account_id) (sentinel_failed_auth_rate) > 0.9
        labels: {alert_type: OF_TWO_RULES, severity: SEVERITY}
"""


@dataclass(frozen=True)
class Derived:
    folder: Path
    alertmanager_port: int


@pytest.fixture
def derived(free_port: Callable[[], int], exposition: Exposition, receiver: Receiver, tmp_path: Path) -> Derived:
    port = free_port()
    token = tmp_path / "ingest_token"
    token.write_text("s3cret")
    derive(
        ROOT,
        tmp_path,
        speed=60,
        scale_ranges=False,
        exporter=exposition.address,
        alertmanagers=[f"127.0.0.1:{port}"],
        webhook_url=receiver.url,
        credentials_file=token,
    )
    return Derived(tmp_path, port)


@pytest.fixture
def alertmanager(
    derived: Derived, run_prometheus: Callable[..., str], run_alertmanager: Callable[..., str]
) -> Alertmanager:
    url = run_alertmanager(derived.folder / "alertmanager.yml", port=derived.alertmanager_port)
    run_prometheus(derived.folder / "prometheus.yml", "--rules.alert.resend-delay=1s")  # 1 minute, as fast
    return Alertmanager(url)


def test_card_testing_from_exposition_to_webhook(
    alertmanager: Alertmanager, exposition: Exposition, receiver: Receiver
) -> None:
    exposition.show(acc_017=(0.5503836317135549, 0.7123456789012345, 812.0), acc_018=(0.35038363171355497, 0.4, 150.0))

    critical = receiver.wait_for("CardTestingCritical", "firing")
    assert critical.path.endswith("/webhook?priority=urgent")
    assert critical.authorization == "Bearer s3cret"
    (alert,) = critical.alerts
    assert alert["labels"] == {
        "alertname": "CardTestingCritical",
        "alert_type": "CARD_TESTING",
        "severity": "P1",
        "account_id": "acc_017",
    }
    assert (
        alert["annotations"].items()
        >= {
            "account_id": "acc_017",
            "merchant_name": "M. acc_017",
            "block_rate": "0.5503836317135549",
            "failed_auth_rate": "0.7123456789012345",
            "transaction_count": "812",
            "threshold_block_rate": "0.5",
            "threshold_failed_auth_rate": "0.7",
            "threshold_transaction_count": "500",
        }.items()
    )

    detected = receiver.wait_for("CardTestingDetected", "firing")
    assert detected.path.endswith("/webhook")
    (other,) = detected.alerts
    assert (other["labels"]["account_id"], other["annotations"]["block_rate"]) == ("acc_018", "0.35038363171355497")

    def lower_severities() -> list[str]:
        known = [*alertmanager.knows("CardTestingSevere"), *alertmanager.knows("CardTestingDetected")]
        return [each["status"]["state"] for each in known if each["labels"]["account_id"] == "acc_017"]

    wait_for(lambda: lower_severities() == ["suppressed"] * 2, what="P2 and P3 are inhibited by P1")

    exposition.show(acc_017=(0.01, 0.02, 90.0), acc_018=(0.01, 0.02, 90.0))
    ended = receiver.wait_for("CardTestingCritical", "resolved")
    assert ended.path.endswith("/webhook?priority=urgent")
    (resolved,) = ended.alerts
    assert resolved["startsAt"] == alert["startsAt"]
    assert resolved["fingerprint"] == alert["fingerprint"]
    assert resolved["annotations"]["block_rate"] == "0.5503836317135549"
    receiver.wait_for("CardTestingDetected", "resolved")
    delivered = {
        (each["labels"]["account_id"], each["labels"]["alertname"])
        for delivery in receiver.deliveries
        for each in delivery.alerts
    }
    assert delivered == {("acc_017", "CardTestingCritical"), ("acc_018", "CardTestingDetected")}


@pytest.mark.parametrize("severity", ["P2", "P1"])
def test_a_resolve_that_was_inhibited_arrives_when_the_higher_severity_has_ended_too(
    derived: Derived, request: pytest.FixtureRequest, exposition: Exposition, receiver: Receiver, severity: str
) -> None:
    """Prometheus sends a resolve again for 15 minutes, so it is lost only when the higher severity lasts longer."""
    (derived.folder / "rules" / "not_nested.yml").write_text(NOT_NESTED.replace("SEVERITY", severity))
    alertmanager: Alertmanager = request.getfixturevalue("alertmanager")
    exposition.show(acc_017=(0.95, 0.1, 9.0))
    receiver.wait_for("Lesser", "firing")
    exposition.show(acc_017=(0.95, 0.95, 9.0))
    receiver.wait_for("Greater", "firing")
    exposition.show(acc_017=(0.1, 0.95, 9.0))
    wait_for(lambda: not alertmanager.knows("Lesser"), what="Alertmanager has heard the resolve")
    for _ in range(2):
        receiver.wait_for("Greater", "firing", after=time.monotonic())
    assert receiver.of("Lesser", "resolved") == []
    exposition.show(acc_017=(0.1, 0.1, 9.0))
    receiver.wait_for("Greater", "resolved")
    receiver.wait_for("Lesser", "resolved")
