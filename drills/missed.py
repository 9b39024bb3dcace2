"""An attack that begins and ends while nobody can be told, in a real Prometheus and Alertmanager.

Alertmanager tells nobody of it any more: what has ended before it could be delivered once, or before Alertmanager has
heard of it, is dropped. It is in Prometheus' ALERTS, where the worker finds it after the outage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
import yaml

from drills.run import Result, Say
from drills.stack import Needs, Stack, running
from drills.verify import Verdict
from tests import servers
from tests.servers import wait_for
from tests.stub_server import StubServer, respond
from webhook.storage.tables import alert, alert_dynamic, alert_instance, notification

HELP = "an attack begins and ends while `serve` and `worker` are down, in Prometheus and Alertmanager; they come back"
CONTROL = "the worker does not compare Prometheus' ALERTS with what was received"
CUT_HELP = "an attack begins and ends while Prometheus cannot reach Alertmanager; all of them live"
CUT_CONTROL = "only Alertmanager is asked whether something was not delivered"

_BEFORE, _MISSED = "acc_before", "acc_missed"
_CONTROL_S = 60.0
_PATIENCE_S = 300.0
_QUIET_S = 15.0
_NEAR = timedelta(seconds=5)


@dataclass
class Metrics(StubServer):
    """What Prometheus scrapes: the block rate of each account."""

    rates: dict[str, float] = field(default_factory=dict)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        lines = [f'sentinel_block_rate{{account_id="{name}"}} {rate}\n' for name, rate in self.rates.items()]
        respond(request, 200, "".join(lines).encode(), {"Content-Type": "text/plain; version=0.0.4"})


def run(*, control: bool, say: Say) -> Result:
    return _run("missed", {"worker": "reconciliation"} if control else {}, _while_down, say)


def cut(*, control: bool, say: Say) -> Result:
    return _run("cut", {"worker": "prometheus-mark"} if control else {}, _while_cut, say)


def _run(drill: str, without: dict[str, str], fault: Callable[[Stack, Metrics, Say], _Attack], say: Say) -> Result:
    """`fault` brings an attack about that nobody hears of."""
    control, began = bool(without), time.monotonic()
    with Metrics() as metrics:
        metrics.rates = {_BEFORE: 0.0, _MISSED: 0.0}
        with running(Needs(prometheus=_prometheus(metrics), without=without)) as stack:
            _write_rules(stack)
            say(f"started in {time.monotonic() - began:.0f} s")
            known = _attack(stack, metrics, _BEFORE)
            wait_for(lambda: _told(stack, _BEFORE), what="the first message", timeout=_PATIENCE_S)
            known.end()
            down = time.monotonic()
            missed = fault(stack, metrics, say)
            up = time.monotonic()
            verdict = _watch(stack, missed, control=control)
            done = time.monotonic()
            found = done - up if not verdict.missing else None
    result = Result(drill, control, verdict, done - began, fault_s=up - down)
    result.first_s = result.caught_up_s = found
    return result


def _prometheus(metrics: Metrics) -> str:
    target = metrics.origin.removeprefix("http://")
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "drill", "static_configs": [{"targets": [target]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["ALERTMANAGER"]}]}]},
        }
    )


def _write_rules(stack: Stack) -> None:
    """Read once Prometheus runs: what is evaluated at its start is recorded two evaluations late."""
    rule = {
        "alert": "CardTestingSevere",
        "expr": "sentinel_block_rate > 0.3",
        "labels": {"alert_type": "CARD_TESTING", "severity": "P2"},
        "annotations": {"summary": "Severe card testing", "block_rate": "{{ $value }}", "threshold_block_rate": "0.3"},
    }
    groups = [{"name": "drill", "interval": "1s", "rules": [rule]}]
    (stack.folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    requests.post(f"{stack.prometheus}/-/reload", timeout=60).raise_for_status()


@dataclass
class _Attack:
    """As Alertmanager has it."""

    stack: Stack
    metrics: Metrics
    account: str
    starts_at: datetime

    def end(self) -> None:
        self.metrics.rates[self.account] = 0.0
        wait_for(lambda: _held(self.stack, self.account) is None, what="its end in Alertmanager", timeout=_PATIENCE_S)


def _attack(stack: Stack, metrics: Metrics, account: str) -> _Attack:
    metrics.rates[account] = 0.41
    held = wait_for(lambda: _held(stack, account), what="the alert in Alertmanager", timeout=_PATIENCE_S)
    assert held is not None
    return _Attack(stack, metrics, account, datetime.fromisoformat(held["startsAt"]))


def _held(stack: Stack, account: str) -> dict[str, Any] | None:
    asked = {"filter": f'account_id="{account}"', "active": "true"}
    alerts = requests.get(f"{stack.alertmanager}/api/v2/alerts", params=asked, timeout=60).json()
    return next((one for one in alerts if one["status"]["state"] == "active"), None)


def _while_down(stack: Stack, metrics: Metrics, say: Say) -> _Attack:
    """It is over, and Alertmanager has given up on it, before anybody is there again."""
    for name in ("serve", "worker"):
        stack[name].stop()
    say("`serve` and `worker` are down")
    missed = _attack(stack, metrics, _MISSED)
    tried = stack.tap.doubtful
    wait_for(lambda: stack.tap.doubtful > tried, what="a delivery that failed", timeout=_PATIENCE_S)
    missed.end()
    say("an attack has begun and ended")
    _wait_until_given_up(stack)
    for name in ("serve", "worker"):
        stack[name].kept = True
        stack[name].start()
    say("`serve` and `worker` are back")
    return missed


def _while_cut(stack: Stack, metrics: Metrics, say: Say) -> _Attack:
    """Over before they reach each other again."""
    path = stack.folder / "prometheus.yml"
    connected = path.read_text()
    address = stack.alertmanager.removeprefix("http://")
    _configure(stack, path, connected.replace(address, f"127.0.0.1:{servers.free_port()}"))
    say("Prometheus cannot reach Alertmanager")
    metrics.rates[_MISSED] = 0.41
    begun = wait_for(lambda: _recorded(stack, _MISSED), what="the alert in Prometheus", timeout=_PATIENCE_S)
    metrics.rates[_MISSED] = 0.0
    wait_for(lambda: not _recorded(stack, _MISSED), what="its end in Prometheus", timeout=_PATIENCE_S)
    say("an attack has begun and ended")
    _configure(stack, path, connected)
    say("they reach each other again")
    return _Attack(stack, metrics, _MISSED, datetime.fromisoformat(begun[0]["activeAt"]))


def _configure(stack: Stack, path: Path, text: str) -> None:
    path.write_text(text)
    requests.post(f"{stack.prometheus}/-/reload", timeout=60).raise_for_status()


def _recorded(stack: Stack, account: str) -> list[dict[str, Any]]:
    alerts = requests.get(f"{stack.prometheus}/api/v1/alerts", timeout=60).json()["data"]["alerts"]
    return [one for one in alerts if one["labels"].get("account_id") == account and one["state"] == "firing"]


def _wait_until_given_up(stack: Stack) -> None:
    """Alertmanager tries a delivery for ten seconds."""
    seen, since = stack.tap.doubtful, time.monotonic()
    while time.monotonic() - since < _QUIET_S:
        time.sleep(0.5)
        if stack.tap.doubtful != seen:
            seen, since = stack.tap.doubtful, time.monotonic()


def _told(stack: Stack, account: str) -> list[str]:
    n = notification.c
    query = sa.select(n.reason).where(n.account_id == account, n.status == "SENT").order_by(n.created_at)
    with stack.store.engine.connect() as connection:
        return list(connection.scalars(query))


def _watch(stack: Stack, missed: _Attack, *, control: bool) -> Verdict:
    until = time.monotonic() + (_CONTROL_S if control else _PATIENCE_S)
    while True:
        verdict = _verify(stack, missed)
        if verdict.holds or verdict.broken or time.monotonic() > until:
            return verdict
        time.sleep(0.5)


def _verify(stack: Stack, missed: _Attack) -> Verdict:
    verdict = Verdict()
    for account in (_BEFORE, _MISSED):
        told = _told(stack, account)
        if len(told) != len(set(told)):
            verdict.broken.append(f"{account}: told {told}")
        if set(told) != {"first", "resolved"}:
            verdict.missing.append(f"{account}: told {told}, and not begin and end")
    query = (
        sa.select(alert_dynamic.c.first_triggered_at, alert_dynamic.c.status, alert_instance.c.resolved_at)
        .join(alert, alert.c.id == alert_dynamic.c.alert_id)
        .join(alert_instance, alert_instance.c.alert_id == alert.c.id)
        .where(alert.c.account_id == _MISSED)
    )
    with stack.store.engine.connect() as connection:
        rows = connection.execute(query).all()
    verdict.figures = {"attacks": 2, "messages": sum(len(_told(stack, one)) for one in (_BEFORE, _MISSED))}
    if not rows:
        verdict.missing.append("the attack has no alert")
    for began, status, ended in rows:
        if abs(began - missed.starts_at) > _NEAR:
            verdict.broken.append(f"it began {missed.starts_at}, and its alert at {began}")
        if status != "RESOLVED" or ended is None or ended <= began:
            verdict.missing.append(f"it is over, and its alert is {status}, ended {ended}")
    return verdict
