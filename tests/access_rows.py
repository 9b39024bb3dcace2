"""Principals and doors for the tests of who may do what."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import page_rows as rows
from flask import Flask
from flask.testing import FlaskClient
from page_reading import token_in

from webhook.app import create_app
from webhook.config import Settings
from webhook.domain.access import Role
from webhook.storage.database import Database
from webhook.storage.keys import NewKey, create_key

INGEST_TOKEN = "an-ingest-token-for-tests"
OWN, FOREIGN = "acc_own", "acc_foreign"


@dataclass
class Site:
    """The whole application over a store with an own and a foreign alert, and a key of each role."""

    database: Database
    clock: rows.Clock = field(default_factory=rows.Clock)
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = self.database.url.render_as_string(hide_password=False)
        given = {"database_url": url, "ingest_token": INGEST_TOKEN, "admin_token": rows.TOKEN} | self.settings
        self.app: Flask = create_app(Settings.model_validate(given), clock=self.clock)
        self.own = self.alert(OWN)
        self.foreign = self.alert(FOREIGN)
        self.keys = {
            Role.ADMIN: self.key("admin", Role.ADMIN),
            Role.OPS: self.key("ops", Role.OPS),
            Role.MERCHANT: self.key("merchant", Role.MERCHANT, OWN),
        }

    def alert(self, account_id: str) -> str:
        return rows.insert_alert(self.database, account_id=account_id, merchant_name=f"Merchant {account_id}")

    def key(self, name: str, role: Role, *accounts: str, expires_at: datetime | None = None) -> str:
        with self.database.write() as connection:
            new = NewKey(name, role, accounts, expires_at)
            return create_key(connection, new, rows.ADMIN, self.clock())[1]

    def client(self) -> FlaskClient:
        return self.app.test_client()

    def logged_in(self, key: str) -> FlaskClient:
        client = self.client()
        form = {"token": key, "csrf_token": token_in(client.get("/login").text)}
        assert client.post("/login", data=form).status_code == 303
        return client

    def close(self) -> None:
        self.app.extensions["sentinel_broadcaster"].close()
        self.app.extensions["sentinel_database"].close()
