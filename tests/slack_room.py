"""The application with Slack's buttons, a Slack, and messages in its channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import page_rows as rows
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from fakes_slack import CHANNEL_ID, SlackStub
from notes import make_message, make_note
from slack_presses import PATH, SECRET, body_of, headers
from werkzeug.test import TestResponse

from webhook.notifiers.slack import Slack, SlackOptions
from webhook.storage.access_tables import audit_log
from webhook.storage.tables import alert_dynamic, notification


@dataclass
class Room:
    """The application with buttons, a Slack, and messages in its channels."""

    site: Site
    stub: SlackStub

    def fresh(self) -> Room:
        """With alerts of its own, and nothing said yet: an application takes longer to make than most tests."""
        self.site.own, self.site.foreign = self.site.alert(OWN), self.site.alert(FOREIGN)
        for said in (self.stub.told, self.stub.views, self.stub.calls, self.stub.shared):
            said.clear()
        return self

    def post(self, alert_id: str, *, channel: str = CHANNEL_ID, own: bool = False, **changes: Any) -> dict[str, Any]:
        """A message about an alert, sent as the worker does."""
        options = {"token": "xoxb-1", "channel": channel, "signing_secret": SECRET, "timeout": 60}
        slack = Slack(SlackOptions(**options, api_url=self.stub.url))
        receipt = slack.send(make_message(make_note(alert_id=alert_id, **changes)), {})
        row = rows.insert_notification(self.site.database, alert_id)
        values = {
            "metadata": {"provider": {"reference": receipt.reference, **receipt.details}},
            "content": {"channel_settings": {"channel": channel} if own else {}, "metrics": {"block_rate": 0.35}},
            "sent_at": self.site.clock(),
        }
        with self.site.database.write() as connection:
            connection.execute(sa.update(notification).where(notification.c.id == row).values(values))
        return self.stub.shown(receipt.reference, receipt.details["channel"])

    def send(self, payload: dict[str, Any], **changes: str) -> TestResponse:
        body = body_of(payload)
        given = {**headers(body, self.site.clock()), **changes}
        return self.site.client().post(PATH, data=body, headers=given)

    def press(self, payload: dict[str, Any]) -> None:
        """Pressed, and what comes of it is done."""
        answer = self.send({**payload, "response_url": payload.get("response_url") or self.stub.response_url})
        assert (answer.status_code, answer.get_data()) == (200, b"")
        self.site.app.extensions["sentinel_slack_actions"].finish(60)

    def alert(self, alert_id: str) -> dict[str, Any]:
        with self.site.database.read() as connection:
            query = sa.select(alert_dynamic).where(alert_dynamic.c.alert_id == alert_id)
            return dict(connection.execute(query).mappings().one())

    def audits(self, alert_id: str) -> list[dict[str, Any]]:
        with self.site.database.read() as connection:
            query = sa.select(audit_log).where(audit_log.c.alert_id == alert_id).order_by(audit_log.c.created_at)
            return [dict(row) for row in connection.execute(query).mappings()]

    @property
    def told(self) -> list[str]:
        return [entry["text"] for entry in self.stub.told]

    def state(self, message: dict[str, Any]) -> str:
        text: str = self.stub.shown(message["ts"], message.get("channel", CHANNEL_ID))["blocks"][1]["text"]["text"]
        return text


@contextmanager
def room_over(store_url: str) -> Iterator[Room]:
    with SlackStub() as stub:
        settings = {
            "slack_bot_token": "xoxb-1",
            "slack_channel": "#fraud",
            "slack_api_url": stub.url,
            "channel_options": {"slack": {"signing_secret": SECRET, "timeout": 60}},
        }
        site = Site(rows.open_store(store_url), settings=settings)
        yield Room(site, stub)
        site.app.extensions["sentinel_slack_actions"].close()
        site.close()
        site.database.close()
