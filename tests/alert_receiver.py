"""A webhook that records what Alertmanager delivers, and alerts as Prometheus posts them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests
import servers

Alert = dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    path: str
    authorization: str
    payload: Any
    received_at: float  # monotonic seconds

    @property
    def alerts(self) -> list[Alert]:
        return list(self.payload["alerts"])

    def holds(self, name: str, status: str, account: str | None = None) -> bool:
        return any(
            alert["labels"]["alertname"] == name
            and alert["status"] == status
            and account in (None, alert["labels"].get("account_id"))
            for alert in self.alerts
        )


@dataclass
class Receiver:
    url: str
    deliveries: list[Delivery] = field(default_factory=list)

    def of(self, name: str, status: str, account: str | None = None) -> list[Delivery]:
        """Deliveries so far that hold the alert with this status, of this account if one is named."""
        return [delivery for delivery in list(self.deliveries) if delivery.holds(name, status, account)]

    def wait_for(self, name: str, status: str, account: str | None = None, *, after: float = 0) -> Delivery:
        def found() -> Delivery | None:
            return next((each for each in self.of(name, status, account) if each.received_at > after), None)

        return servers.wait_for(found, what=f"{name} {status} {account or ''}")


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free loopback port; yield its `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def recording_receiver() -> Iterator[Receiver]:
    receiver = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            authorization = self.headers.get("Authorization", "")
            receiver.deliveries.append(Delivery(self.path, authorization, json.loads(body), time.monotonic()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as address:
        receiver.url = f"http://{address}/api/v1/alerts/prometheus/webhook"
        yield receiver


@dataclass
class Alertmanager:
    """Posts alerts as Prometheus does: firing with an end hours ahead, resolved with the end it had."""

    url: str
    started: dict[str, str] = field(default_factory=dict)

    def post(self, *alerts: dict[str, str], resolved: bool = False, **annotations: str) -> None:
        """Each alert is its labels; the start of a firing is kept until it is resolved."""
        now = datetime.now(UTC)
        end = now if resolved else now + timedelta(hours=4)
        body = [
            {
                "labels": labels,
                "annotations": {"account_id": labels.get("account_id", ""), **annotations},
                "startsAt": self.started.setdefault(json.dumps(labels), now.isoformat()),
                "endsAt": end.isoformat(),
                "generatorURL": "http://prometheus/graph",
            }
            for labels in alerts
        ]
        requests.post(f"{self.url}/api/v2/alerts", json=body, timeout=60).raise_for_status()

    def knows(self, name: str, account: str = "") -> list[Alert]:
        """What the API tells of the alert, silenced and inhibited too."""
        wanted = [f'alertname="{name}"', *([f'account_id="{account}"'] if account else [])]
        answer = requests.get(f"{self.url}/api/v2/alerts", params={"filter": wanted}, timeout=60)
        answer.raise_for_status()
        return list(answer.json())
