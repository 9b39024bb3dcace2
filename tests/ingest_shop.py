"""A store with the receiver's pipeline over it, and the alerts that are delivered to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from page_rows import ADMIN
from prometheus_client import CollectorRegistry
from stores import migrate

from webhook.adapters.secrets import SecretBox
from webhook.domain.access import SYSTEM_PRINCIPAL
from webhook.domain.action import Doing
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.ledger import Changes, IngestSettings
from webhook.domain.payload import parse_payload
from webhook.pipeline.ingest import IngestMetrics, ingest
from webhook.storage.acting import AlertActions
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.store import AlertStore

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def firing(
    account: str | None = "acc_001",
    *,
    status: str = "firing",
    starts_at: datetime = START,
    name: str = "CardTestingDetected",
    severity: str = "P3",
    block_rate: str = "0.35038363171355497",
) -> dict[str, Any]:
    labels = {"alertname": name, "alert_type": "CARD_TESTING", "severity": severity, "merchant_name": "Kahn & Co"}
    if account is not None:
        labels["account_id"] = account
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "cards are tested", "block_rate": block_rate, "threshold_block_rate": "0.2"},
        "startsAt": starts_at.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": f"{name}/{account}",
    }


def save_configs(database: Database, configs: Sequence[MerchantConfig], now: datetime) -> Counter[str]:
    """In one transaction, as the system; none may hold a secret."""
    saved = ConfigStore(database, SecretBox()).save(configs, SYSTEM_PRINCIPAL, now)
    return Counter(item.change for item in saved)


def by(actor: str, now: datetime) -> Doing:
    return Doing(actor, ADMIN, now)


class Shop:
    """One store with its settings and a clock that tests advance."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self.database = Database(url)
        self.store = AlertStore(self.database)
        self.settings = IngestSettings()
        self.actions = AlertActions(self.database, self.settings.channels)
        self.registry = CollectorRegistry()
        self.metrics = IngestMetrics(self.registry)
        self.now = START

    def deliver(self, *alerts: object, after: timedelta = timedelta(0), urgent: bool = False) -> Changes:
        self.now += after
        received = parse_payload({"alerts": list(alerts)}, urgent=urgent)
        return ingest(self.store, received, self.settings, self.now, metrics=self.metrics)

    def outcomes(self, *alerts: object, after: timedelta = timedelta(0)) -> list[str]:
        return [entry.label for entry in self.deliver(*alerts, after=after).entries]

    def rows(self, table: sa.Table, **where: object) -> list[dict[str, Any]]:
        query = sa.select(table).filter_by(**where)
        for order in ("created_at", "updated_at", "starts_at"):
            if order in table.c:
                query = query.order_by(table.c[order])
                break
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"{name}_total", labels) or 0


@pytest.fixture
def shop(store_url: str) -> Iterator[Shop]:
    shop = Shop(store_url)
    yield shop
    shop.database.close()
