"""`make bench-preview`: how long a preview takes over 100,000 stored triggers of one account and type.

The triggers are delivered to the receiver's own pipeline: two Alertmanagers repeat what three rules say of twelve
regions, over 30 days, so that alerts, instances, messages and outcomes of all kinds are stored. Each proposal is
previewed on SQLite and on PostgreSQL. Prints `goal preview, <store>, <proposal>: <seconds> (wanted <= 2) ok|short` by
wall time, and exits 1 when one is short.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import click
import psycopg
import sqlalchemy as sa
import structlog

from tests import servers
from webhook.adapters.secrets import SecretBox
from webhook.domain.access import SYSTEM_PRINCIPAL
from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.ledger import IngestSettings
from webhook.domain.payload import parse_payload
from webhook.pipeline.ingest import ingest
from webhook.pipeline.preview import LONGEST, Preview, Previews
from webhook.pipeline.sweep import Sweep
from webhook.storage.columns import metadata
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade
from webhook.storage.outbox import Outbox
from webhook.storage.replaying import StoredPast
from webhook.storage.store import AlertStore
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import (
    alert,
    alert_dynamic,
    alert_instance,
    alert_trigger_log,
    notification,
)

WANTED = 2.0
NOW = datetime(2026, 1, 31, tzinfo=UTC)
ACCOUNT, TYPE = "acc_001", "CARD_TESTING"
REGIONS = [f"region-{number}" for number in range(12)]
RULES = (("CardTestingDetected", "P3"), ("CardTestingSevere", "P2"), ("CardTestingCritical", "P1"))
SETTINGS = IngestSettings(types=AlertTypes(AlertTypeSettings(fingerprint_fields=("region",))))
_REPEAT = timedelta(minutes=5)
_LIMITS = {"frequency_control": {"max_alerts_per_hour": 100, "max_alerts_per_day": 1000}}

_RATES = (Condition("block_rate", ">", 0.3), Condition("failed_auth_rate", ">=", 0.2), Condition("total", ">", 50))
_TEXTS = (Condition("region", "in", REGIONS[:9]), Condition("merchant_name", "regex", "^Kahn.*Co$"))


def _config(*conditions: Condition, channels: Mapping[str, Mapping[str, Any]] | None = None) -> MerchantConfig:
    return MerchantConfig(
        ACCOUNT, TYPE, conditions=conditions, notification_settings=_LIMITS, channel_preferences=channels or {}
    )


PRESENT = _config(Condition("block_rate", ">", 0.2))
PROPOSALS = {
    "as it is": PRESENT,
    "3 rates": _config(*_RATES),
    "3 rates, 2 texts": _config(*_RATES, *_TEXTS),
    "no channel": _config(*PRESENT.conditions, channels={"console": {"enabled": False}}),
}


@dataclass(slots=True)
class _Firing:
    starts_at: datetime
    rates: dict[str, float]


class Attacks:
    """What each region's rules say: they begin and end to fire now and then, and their rates move a little."""

    def __init__(self) -> None:
        self._chosen = random.Random(1)  # noqa: S311 - made up rows
        self._firing: dict[tuple[str, str], _Firing] = {}

    def delivery(self, now: datetime, *, over: bool) -> list[dict[str, Any]]:
        """All that fires, and what has just ended: all of it where it is `over`."""
        return [alert for region in REGIONS for rule in RULES for alert in self._alert(region, *rule, now, over=over)]

    def _alert(self, region: str, name: str, severity: str, now: datetime, *, over: bool) -> Iterator[dict[str, Any]]:
        key, firing = (region, name), (region, name) in self._firing
        ends = firing and (over or self._chosen.random() < _ENDS)
        if not firing and (over or self._chosen.random() >= _BEGINS):
            return
        rates = {metric: self._chosen.uniform(*span) for metric, span in _SPANS.items()}
        one = self._firing.pop(key) if ends else self._firing.setdefault(key, _Firing(now, rates))
        moved = {metric: repr(rate * self._chosen.uniform(0.97, 1.03)) for metric, rate in one.rates.items()}
        labels = {"alertname": name, "alert_type": TYPE, "severity": severity, "account_id": ACCOUNT, "region": region}
        yield {
            "status": "resolved" if ends else "firing",
            "labels": labels | {"merchant_name": "Kahn & Co"},
            "annotations": {"summary": "cards are tested", **moved},
            "startsAt": one.starts_at.isoformat(),
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": f"{name}/{region}",
        }


_SPANS = {"block_rate": (0.15, 0.6), "failed_auth_rate": (0.1, 0.6), "total": (40, 4000)}
_BEGINS, _ENDS = 0.02, 0.05  # of each rule and region, at each repeat


def fill(database: Database, triggers: int) -> int:
    """A day goes through the pipeline and is copied until there are so many triggers before NOW; return how many."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ConfigStore(database, SecretBox()).save([PRESENT], SYSTEM_PRINCIPAL, NOW - LONGEST)
    stored = _a_day(database, NOW - timedelta(days=1))
    with database.write() as connection:
        made = {table: [dict(row) for row in connection.execute(sa.select(table)).mappings()] for table in _COPIED}
        days = 1
        while stored * days < triggers and days < LONGEST.days:
            _copy_of_day(connection, made, timedelta(days=days))
            days += 1
    return stored * days


def _a_day(database: Database, start: datetime) -> int:
    store, attacks, stored = AlertStore(database), Attacks(), 0
    sweep = Sweep(Sweeping(database, SETTINGS.types, SETTINGS.channels), Outbox(database), SETTINGS.types)
    at, end = start, start + timedelta(hours=23)
    while at < end:
        at += _REPEAT
        delivered = attacks.delivery(at, over=at >= end)
        for late in (timedelta(0), timedelta(seconds=20)):  # the second Alertmanager
            sweep.run_once(at + late)
            stored += len(ingest(store, parse_payload({"alerts": delivered}), SETTINGS, at + late).entries)
    sweep.run_once(at + timedelta(minutes=20))
    return stored


_COPIED = (alert, alert_dynamic, alert_instance, alert_trigger_log, notification)


def _copy_of_day(
    connection: sa.Connection, made: Mapping[sa.Table, Sequence[Mapping[str, Any]]], back: timedelta
) -> None:
    """The same rows so much earlier, of alerts of their own."""
    for table, rows in made.items():
        connection.execute(sa.insert(table), [_earlier(row, back) for row in rows])


def _earlier(row: Mapping[str, Any], back: timedelta) -> dict[str, Any]:
    ids = {name: str(uuid5(UUID(row[name]), str(back))) for name in ("id", "alert_id") if row.get(name) is not None}
    times = {name: value - back for name, value in row.items() if isinstance(value, datetime)}
    moved = {"metrics_data": _moved(row["metrics_data"], back)} if row.get("metrics_data") else {}
    return {**row, **ids, **times, **moved, **({"comment_id": None} if "comment_id" in row else {})}


def _moved(rates: Mapping[str, float], back: timedelta) -> dict[str, float]:
    """By so little that no condition sees it: no two days have the same."""
    return {metric: rate * (1 + 1e-9 * back.days) for metric, rate in rates.items()}


def copy(source: Database, target: Database) -> None:
    """All rows."""
    with source.read() as reading, target.write() as writing:
        for table in metadata.sorted_tables:
            rows = [dict(row) for row in reading.execute(sa.select(table)).mappings()]
            for start in range(0, len(rows), 5000):
                writing.execute(sa.insert(table), rows[start : start + 5000])
    if target.dialect == "postgresql":
        with target.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))


def measure(name: str, database: Database, rounds: int) -> bool:
    """Print figures and goals; True when all hold."""
    fine = True
    gc.collect()
    gc.freeze()  # as a process that serves does once it has started
    for proposal, config in PROPOSALS.items():
        previews = Previews(StoredPast(database), None, SETTINGS, seconds=300)
        wall, cpu, found = _timed(lambda: previews.run(config, NOW, LONGEST), rounds)  # noqa: B023 - called at once
        print(f"  {name}, {proposal}: {json.dumps(_told(found))}")
        print(f"    wall {_span(wall)} s, CPU of this process {_span(cpu)} s")
        holds = statistics.median(wall) <= WANTED
        fine = fine and holds
        told = "ok" if holds else "short"
        print(f"goal preview, {name}, {proposal}: {statistics.median(wall):.2f} s (wanted <= {WANTED:g} s) {told}")
    return fine


def _timed(run: Callable[[], Preview], rounds: int) -> tuple[list[float], list[float], Preview]:
    wall, cpu = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.process_time()
        found = run()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    return wall, cpu, found


def _span(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} ... {max(seconds):.2f})"


def _told(found: Preview) -> Mapping[str, Any]:
    replayed = found.replayed
    outcomes = {f"{old} -> {new}": number for (old, new), number in replayed.outcomes.most_common()}
    changes = {"alerts vanish": replayed.alerts.vanish, "messages vanish": replayed.messages.vanish}
    return {"triggers": replayed.triggers, "alerts": replayed.alerts.stored, **changes, **outcomes}


@contextmanager
def stores(triggers: int) -> Iterator[Mapping[str, Database]]:
    """The same rows in both databases."""
    with tempfile.TemporaryDirectory() as folder, servers.postgresql() as server:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE preview")
        urls = {
            "SQLite": f"sqlite:///{Path(folder) / 'sentinel.db'}",
            "PostgreSQL": f"{server}/preview".replace("postgresql://", "postgresql+psycopg://"),
        }
        for url in urls.values():
            upgrade(url)
        made = {name: Database(url) for name, url in urls.items()}
        stored = fill(made["SQLite"], triggers)
        copy(made["SQLite"], made["PostgreSQL"])
        print(f"{stored:,} triggers stored")
        yield made
        for database in made.values():
            database.close()


@click.command()
@click.option("--triggers", default=100_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(*, triggers: int, rounds: int) -> None:
    """Measure previews on both databases; exit code 1 when a goal is short."""
    with stores(triggers) as made:
        fine = [measure(name, database, rounds) for name, database in made.items()]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
