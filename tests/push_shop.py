"""The whole application over a store, with the channel of the web app beside it and browsers that subscribe."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import page_rows as rows
import sqlalchemy as sa
from access_rows import OWN, Site
from fakes_push import FakeBrowser, PushStub
from notes import make_message, make_note

from webhook.adapters.secrets import SecretBox
from webhook.domain.access import Role, token_mark
from webhook.notifiers.web_push import new_key
from webhook.notifiers.webapp import WebApp, WebAppOptions
from webhook.ports import Receipt
from webhook.storage.database import Database
from webhook.storage.push import WebReaders
from webhook.storage.web_tables import push_subscription

KEY = new_key()
OPTIONS: dict[str, Any] = {"vapid_private_key": KEY, "subject": "mailto:oncall@sentinel.example", "timeout": 10}
SECRET = "a-secret-key-for-tests"
API = "/api/v1/push"
DAYS = timedelta(days=30)


@dataclass
class Shop:
    """The whole application over a store, and the worker's channel beside it."""

    site: Site
    service: PushStub
    options: dict[str, Any] = field(default_factory=lambda: dict(OPTIONS))
    secret: str = SECRET

    @property
    def database(self) -> Database:
        return self.site.database

    def channel(self, **options: Any) -> WebApp:
        readers = WebReaders(self.database, SecretBox([], self.secret), token_mark(rows.TOKEN))
        return WebApp(WebAppOptions(**{**self.options, **options}), readers, insecure=True, clock=self.site.clock)

    def subscribe(self, whose: str, status: int = 201, browser: FakeBrowser | None = None, **body: Any) -> FakeBrowser:
        browser = browser or self.service.browser()
        given = {**browser.subscription, **body}
        answer = self.site.client().post(f"{API}/subscriptions", json=given, headers={"X-API-Key": whose})
        assert answer.status_code == status, answer.text
        return browser

    def merchant(self, *accounts: str) -> str:
        return self.site.key("m", Role.MERCHANT, *(accounts or (OWN,)))

    def tell(self, account_id: str = OWN, *, again: bool = False, **changes: Any) -> Receipt:
        """A message of its own, or the last one once more."""
        if not again:
            self._last = str(uuid4())
        note = make_note(notification_id=self._last, account_id=account_id, channel_type="webapp", **changes)
        return self.channel().send(make_message(note), {})

    def subscriptions(self) -> list[sa.RowMapping]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(push_subscription)).mappings())


def open_shop(database: Database, service: PushStub) -> Shop:
    settings: dict[str, object] = {
        "secret_key": SECRET,
        "insecure_webhooks": True,
        "channel_options": {"webapp": dict(OPTIONS)},
    }
    return Shop(Site(database, settings=settings), service)
