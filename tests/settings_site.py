"""The settings of merchants over a store, for the tests of the pages: without Prometheus, and any address is good."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from webhook.adapters.secrets import SecretBox
from webhook.domain.alert import AlertTypes
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.ledger import IngestSettings
from webhook.notifiers.registry import CHANNELS
from webhook.pipeline.preview import Previews
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.replaying import StoredPast
from webhook.web.config_api import ConfigSite
from webhook.web.previewing import preview_answer


def settings_site(database: Database, clock: Callable[[], datetime]) -> ConfigSite:
    previews = Previews(StoredPast(database), None, IngestSettings(AlertTypes(), {"console": {}}))

    def tried(config: MerchantConfig, span: timedelta, now: datetime, examples: int) -> dict[str, Any]:
        return preview_answer(previews.run(config, now, span, examples=examples))

    return ConfigSite(ConfigStore(database, SecretBox([], "s")), clock, tried, lambda _config, _known: None, CHANNELS)
