"""What finds alerts that were not delivered, wired."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from webhook.adapters.alertmanager import FiringAnywhere
from webhook.adapters.fired import PrometheusFired
from webhook.config import Settings
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.reconcile import Reconciliation
from webhook.storage.database import Database
from webhook.storage.reception import Reception
from webhook.storage.store import AlertStore


def build_reconciliation(
    settings: Settings, database: Database, registry: CollectorRegistry, senders: FiringAnywhere
) -> Reconciliation:
    """Everything goes by the default session timeout: three times as long as Alertmanager tries a delivery."""
    timeout = settings.alert_types.default.session_timeout
    return Reconciliation(
        senders,
        PrometheusFired(settings.prometheus_url),
        Reception(database, lookback=timeout),
        AlertStore(database),
        settings.ingest,
        settled=timeout,
        metrics=IngestMetrics(registry),
    )
