"""What a real Prometheus recorded as firing, and a real Alertmanager has done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from fakes_llm import LlmStub, raw
from ingest_shop import Shop
from servers import wait_for
from stub_server import StubServer, body_of, respond

from webhook.adapters.alertmanager import AlertmanagerFiring
from webhook.adapters.fired import PrometheusFired
from webhook.domain.missed import fingerprint
from webhook.pipeline.reconcile import Reconciliation
from webhook.ports import HistoryUnavailable
from webhook.storage.reception import Reception
from webhook.storage.tables import alert_dynamic, alert_instance


class Refusing(StubServer):
    """A receiver that wants nothing: Alertmanager gives up at once."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        respond(request, 400, b"")


@dataclass
class Pages(StubServer):
    """Status and text of one answer after the other."""

    pages: list[tuple[int, str]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        status, text = self.pages.pop(0)
        respond(request, status, text.encode())


def rules(path: Path, *, fires: bool) -> None:
    """Its annotations are a constant, a metric, and a template that nobody can redo."""
    rule = {
        "alert": "CardTestingSevere",
        "expr": f'label_replace(vector({int(fires)}) > 0, "account_id", "acc \\"1\\"", "", "")',
        "labels": {"alert_type": "CARD_TESTING", "severity": "P2"},
        "annotations": {
            "summary": "Severe card testing",
            "threshold_block_rate": "0.3",
            "block_rate": "{{ $value }}",
            "description": "since {{ $value }}",
        },
    }
    recorded = {
        "record": "sentinel_block_rate",
        "expr": 'label_replace(vector(0.41), "account_id", "acc \\"1\\"", "", "")',
    }
    path.write_text(yaml.safe_dump({"groups": [{"name": "one", "interval": "1s", "rules": [recorded, rule]}]}))


def configured(folder: Path, *, alertmanager: int) -> Path:
    """A file that makes Prometheus send to this port."""
    targets = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "alerting": {"alertmanagers": targets}}))
    return path


def evaluate(prometheus: str, folder: Path, *, fires: bool) -> None:
    rules(folder / "rules.yml", fires=fires)
    requests.post(f"{prometheus}/-/reload", timeout=60).raise_for_status()


def recorded(prometheus: str) -> list[Any]:
    answer = requests.get(f"{prometheus}/api/v1/query", params={"query": 'ALERTS{alertstate="firing"}'}, timeout=60)
    found: list[Any] = answer.json()["data"]["result"]
    return found


def test_a_firing_as_alertmanager_had_it(
    tmp_path: Path,
    run_prometheus: Callable[..., str],
    run_alertmanager: Callable[..., str],
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    with Refusing() as receiver:
        routes = {"receiver": "refusing", "group_wait": "0s", "group_interval": "1s"}
        receivers = [{"name": "refusing", "webhook_configs": [{"url": receiver.url}]}]
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump({"route": routes, "receivers": receivers}))
        url = run_alertmanager(tmp_path / "alertmanager.yml", port=port)
        alertmanager = AlertmanagerFiring(url, timeout=60)
        before = alertmanager.mark()
        assert alertmanager.mark() == before, "nothing has failed"

        since = datetime.now(UTC) - timedelta(minutes=1)
        rules(tmp_path / "rules.yml", fires=False)  # what fires at its start Prometheus records two evaluations late
        server = run_prometheus(configured(tmp_path, alertmanager=port), "--rules.alert.resend-delay=1s")
        prometheus = PrometheusFired(server, timeout=60)
        evaluate(server, tmp_path, fires=True)
        held: dict[str, Any] = wait_for(
            lambda: next(iter(requests.get(f"{url}/api/v2/alerts", timeout=60).json()), None), what="the alert"
        )
        assert prometheus.fired(since, datetime.now(UTC)) == [], "it goes on"
        evaluate(server, tmp_path, fires=False)
        (one,) = wait_for(lambda: prometheus.fired(since, datetime.now(UTC)), what="its end in ALERTS")

        assert fingerprint(one.labels) == held["fingerprint"]
        assert one.labels == held["labels"]
        assert one.starts_at == datetime.fromisoformat(held["startsAt"])
        assert one.ends_at > one.starts_at
        told = prometheus.annotations(one)
        assert told == {"summary": "Severe card testing", "threshold_block_rate": "0.3", "block_rate": "0.41"}
        assert prometheus.fired(one.starts_at, datetime.now(UTC)) == [], "when it began is not known then"
        wait_for(lambda: alertmanager.mark() != before, what="the delivery that was given up")
        prometheus.close()
        alertmanager.close()


def test_what_prometheus_could_not_tell_alertmanager_is_found(
    tmp_path: Path,
    run_prometheus: Callable[..., str],
    run_alertmanager: Callable[..., str],
    free_port: Callable[[], int],
) -> None:
    """Both live all the while, and Alertmanager has nothing to count: it was never asked."""
    (tmp_path / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    alertmanager = AlertmanagerFiring(run_alertmanager(tmp_path / "alertmanager.yml"), timeout=60)
    rules(tmp_path / "rules.yml", fires=False)
    server = run_prometheus(configured(tmp_path, alertmanager=free_port()), "--rules.alert.resend-delay=1s")
    prometheus = PrometheusFired(server, timeout=60)
    wait_for(lambda: "nobody" not in prometheus.mark(), what="its Alertmanagers")
    shop, timeout = Shop(f"sqlite:///{tmp_path / 'sentinel.db'}"), timedelta(minutes=1)
    reception = Reception(shop.database, lookback=timeout)
    reconciliation = Reconciliation(alertmanager, prometheus, reception, shop.store, shop.settings, timeout)
    assert reconciliation.run_once(datetime.now(UTC)) == 0
    before, since = (alertmanager.mark(), prometheus.mark()), datetime.now(UTC) - timeout

    evaluate(server, tmp_path, fires=True)
    wait_for(lambda: prometheus.mark() != before[1], what="alerts that nobody took")
    wait_for(lambda: recorded(server), what="it in ALERTS, an evaluation or two later")
    assert reconciliation.run_once(datetime.now(UTC)) == 0, "it goes on"
    evaluate(server, tmp_path, fires=False)
    (one,) = wait_for(lambda: prometheus.fired(since, datetime.now(UTC)), what="its end in ALERTS")

    assert alertmanager.mark() == before[0]
    later = datetime.now(UTC) + timeout / 3
    assert [reconciliation.run_once(later), reconciliation.run_once(later)] == [1, 0], "once"
    (alert,) = shop.rows(alert_dynamic)
    assert (alert["first_triggered_at"], alert["status"]) == (one.starts_at, "ACTIVE")
    assert [row["resolved_at"] for row in shop.rows(alert_instance)] == [one.ends_at]
    shop.database.close()
    reconciliation.close()
    alertmanager.close()


def test_what_answers_without_counts_is_believed_and_one_that_fails_is_not() -> None:
    with Pages(pages=[(404, ""), (200, "up 1\n"), (503, "")]) as stub:
        prometheus = PrometheusFired(stub.origin)
        assert [prometheus.mark(), prometheus.mark()] == ["", ""]
        with pytest.raises(HistoryUnavailable):
            prometheus.mark()
        prometheus.close()


def test_without_an_alertmanager_to_send_to_each_look_is_another() -> None:
    page = "process_start_time_seconds 7\nprometheus_notifications_dropped_total 3\n"
    known = "prometheus_notifications_alertmanagers_discovered {}\n"
    with Pages(pages=[(200, page + known.format(number)) for number in (0, 0, 1, 2)]) as stub:
        prometheus = PrometheusFired(stub.origin)
        marks = [prometheus.mark() for _ in range(4)]
        prometheus.close()
    assert len(set(marks)) == 3
    assert marks[2:] == ["7 3", "7 3"], "how many of them there are is no failure"


def test_silences_that_are_over_are_known(run_alertmanager: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    url = run_alertmanager(tmp_path / "alertmanager.yml")
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "account_id", "value": "acc_.*", "isRegex": True, "isEqual": False}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "",
    }
    made = requests.post(f"{url}/api/v2/silences", json=silence, timeout=60).json()["silenceID"]
    requests.delete(f"{url}/api/v2/silence/{made}", timeout=60).raise_for_status()

    alertmanager = AlertmanagerFiring(url, timeout=60)
    (found,) = alertmanager.silences()
    alertmanager.close()

    assert found.ends_at < now + timedelta(minutes=30), "it ended when it was taken back"
    assert [matcher.matches({"account_id": name}) for matcher in found.matchers for name in ("acc_1", "x")] == [0, 1]


def test_strange_answers_are_no_answers() -> None:
    for answer in (raw(b"no"), raw(b"{}"), raw(b'{"status": "error", "error": "overloaded"}', 503)):
        with LlmStub(answers=[answer]) as stub:
            for ask in (
                lambda url: PrometheusFired(url).fired(datetime.now(UTC), datetime.now(UTC)),
                lambda url: AlertmanagerFiring(url).mark(),
                lambda url: AlertmanagerFiring(url).silences(),
            ):
                try:
                    ask(stub.origin)
                except HistoryUnavailable:
                    continue
                raise AssertionError("it was believed")
