"""Several real Alertmanagers that are asked as the members of one cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import servers
from servers import wait_for

from webhook.adapters.alertmanager import AlertmanagerFiring, FiringInCluster, firing_of
from webhook.ports import HistoryUnavailable

NONE = timedelta(0)


def post(url: str, account: str) -> None:
    now = datetime.now(UTC)
    alert = {
        "labels": {"alertname": "CardTesting", "account_id": account},
        "startsAt": (now - timedelta(minutes=5)).isoformat(),
        "endsAt": (now + timedelta(minutes=5)).isoformat(),
    }
    requests.post(f"{url}/api/v2/alerts", json=[alert], timeout=30).raise_for_status()


def held(url: str) -> frozenset[str]:
    return frozenset(alert["fingerprint"] for alert in requests.get(f"{url}/api/v2/alerts", timeout=30).json())


def test_of_a_cluster_one_member_that_answers_is_enough(free_port: Callable[[], int], tmp_path: Path) -> None:
    """Each holds what Prometheus has told it; one that is away or new holds up nothing, and is seen in the mark."""
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody, group_wait: 0s}\nreceivers: [{name: nobody}]\n")
    away = f"http://127.0.0.1:{free_port()}"
    with servers.alertmanager(config) as first, servers.alertmanager(config) as second:
        post(first, "first")
        post(second, "second")
        wait_for(lambda: held(first) and held(second), what="the alerts")
        fingerprints = held(first) | held(second)
        both = firing_of([f"{first}|{second}"], warm_up=NONE)
        assert both.firing() == fingerprints
        assert len(fingerprints) == 2
        whole = both.mark()
        one_gone = firing_of([f"{first}|{away}|{second}"], warm_up=NONE)
        assert one_gone.firing() == both.firing()
        assert one_gone.silences() == both.silences()
        assert one_gone.mark() != whole
        assert one_gone.mark() == one_gone.mark(), "which of them is asked is no change"
        long = AlertmanagerFiring(first, warm_up=timedelta(days=1))
        assert FiringInCluster([long, AlertmanagerFiring(second, warm_up=NONE)]).firing() < both.firing()
        for nobody in (firing_of([f"{away}|{away}"], warm_up=NONE), firing_of([away, second], warm_up=NONE)):
            for question in (nobody.firing, nobody.mark, nobody.silences):
                with pytest.raises(HistoryUnavailable):
                    question()
            nobody.close()
        one_gone.close()
        both.close()
        long.close()
