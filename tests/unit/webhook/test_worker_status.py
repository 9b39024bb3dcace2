"""What a worker answers about itself."""

from __future__ import annotations

import socket

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter
from werkzeug.test import Client

from webhook.web.worker_status import serve_status, status_app


def test_it_is_well_until_a_reason_says_otherwise() -> None:
    registry, reasons = CollectorRegistry(), {"healthy": "", "ready": ""}
    Counter("sentinel_things", "Things.", registry=registry).inc()
    client = Client(status_app(registry, healthy=lambda: reasons["healthy"], ready=lambda: reasons["ready"]))

    assert b"sentinel_things_total 1.0" in client.get("/metrics").data
    assert [client.get(f"/-/{name}").status_code for name in reasons] == [200, 200]
    reasons["ready"] = "the database cannot be used"
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.text) == (503, "the database cannot be used\n")
    assert client.get("/-/healthy").status_code == 200
    assert client.get("/elsewhere").status_code == 404


def test_metrics_want_the_token_where_there_is_one() -> None:
    client = Client(status_app(CollectorRegistry(), healthy=str, ready=str, token="a-metrics-token"))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a-metrics-token"}).status_code == 200
    assert client.get("/-/ready").status_code == 200


def test_it_is_served_until_it_is_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    end = serve_status(status_app(CollectorRegistry(), healthy=str, ready=str), "127.0.0.1", port)
    assert requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=60).text == "healthy\n"
    with pytest.raises(OSError, match="in use"):
        serve_status(status_app(CollectorRegistry(), healthy=str, ready=str), "127.0.0.1", port)
    end()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=60)
