"""From an exposition to the webhook: the production rules and routes, with shorter times, in the real servers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alert_receiver import Alertmanager, Receiver, recording_receiver, serving
from servers import wait_for

from demo.derive import derive

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Exposition:
    """Samples with a time of their own: a scrape that does not come about in time makes none of them stale."""

    address: str = ""
    text: str = ""

    def show(self, **merchants: tuple[float, float, float]) -> None:
        """Block rate, failed authorisation rate and number of transactions of each account."""
        self.text = "".join(
            f'sentinel_block_rate{{account_id="{account}",merchant_name="M. {account}",region="EU"}} {block!r} NOW\n'
            f'sentinel_failed_auth_rate{{account_id="{account}",merchant_name="M. {account}"}} {failed!r} NOW\n'
            f'sentinel_transaction_count{{account_id="{account}",merchant_name="M. {account}"}} {count!r} NOW\n'
            for account, (block, failed, count) in merchants.items()
        )


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    exposed = Exposition()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposed.text.replace("NOW", str(int(time.time() * 1000))).encode()
            with contextlib.suppress(OSError):  # Prometheus had no patience
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


@pytest.fixture
def alertmanager(  # noqa: PLR0917 - fixtures
    free_port: Callable[[], int],
    exposition: Exposition,
    receiver: Receiver,
    run_prometheus: Callable[..., str],
    run_alertmanager: Callable[..., str],
    tmp_path: Path,
) -> Alertmanager:
    """Prometheus sends again every minute, as in production: what fires lasts for 4 of them without a word."""
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
    url = run_alertmanager(tmp_path / "alertmanager.yml", port=port)
    run_prometheus(tmp_path / "prometheus.yml")
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

    detected = receiver.wait_for("CardTestingDetected", "firing", "acc_018")
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
    receiver.wait_for("CardTestingDetected", "resolved", "acc_018")
    fired = {
        (each["labels"].get("account_id"), each["labels"]["alertname"])
        for delivery in receiver.deliveries
        for each in delivery.alerts
        if delivery.received_at >= critical.received_at
        and each["status"] == "firing"
        and each["labels"]["alert_type"] == "CARD_TESTING"
    }
    assert fired == {("acc_017", "CardTestingCritical"), ("acc_018", "CardTestingDetected")}


RULES = """
groups:
  - name: one rule
    interval: 1s
    rules: [{alert: Ends, expr: sentinel_block_rate > 0.9}]
"""


def test_prometheus_sends_a_resolve_again(
    exposition: Exposition, run_prometheus: Callable[..., str], tmp_path: Path
) -> None:
    """What becomes of it: tests/integration/test_alertmanager_delivery.py."""
    with recording_receiver() as instead_of_alertmanager:
        (tmp_path / "rules.yml").write_text(RULES)
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\nrule_files: [rules.yml]\n"
            f"scrape_configs: [{{job_name: a, static_configs: [{{targets: ['{exposition.address}']}}]}}]\n"
            "alerting: {alertmanagers: [{static_configs: "
            f"[{{targets: ['{urlsplit(instead_of_alertmanager.url).netloc}']}}]}}]}}\n"
        )
        exposition.show(acc_017=(0.95, 0.1, 9.0))
        run_prometheus(tmp_path / "prometheus.yml", "--rules.alert.resend-delay=1s")

        def ends() -> list[str]:
            """When what was sent ends, once for each time that it was sent."""
            return [each["endsAt"] for delivery in instead_of_alertmanager.deliveries for each in delivery.payload]

        wait_for(ends, what="firing")
        exposition.show(acc_017=(0.1, 0.1, 9.0))
        wait_for(lambda: len(sent := ends()) >= 3 and sent[-3] == sent[-2] == sent[-1], what="the same end three times")
