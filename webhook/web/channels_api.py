"""/api/v1/channels: which there are, how they fare, what they would send, and a test message. For staff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field, StringConstraints, model_validator
from werkzeug.exceptions import Conflict, NotFound

from webhook.domain.access import MAY, Right
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.notifiers.registry import CHANNELS
from webhook.ports import ConfigNotFound, Notifier
from webhook.storage.audit import record_audit
from webhook.storage.channel_health import ChannelHealth, channel_health
from webhook.storage.database import Database
from webhook.storage.transactions import transaction
from webhook.web.access import require
from webhook.web.api import answer
from webhook.web.channel_trial import Asked, BadSettings, ChannelTrial
from webhook.web.config_document import AccountId, AlertType
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import Parameters
from webhook.web.problems import problem


class ChannelPath(BaseModel):
    name: Annotated[str, StringConstraints(pattern="^[a-z]{1,32}$")]


class TrialBody(Parameters):
    """Whose settings are meant: those of an account's configuration, or `settings`; without any, the installation's."""

    merchant_id: AccountId | None = None
    alert_type: AlertType | None = None
    settings: dict[str, Any] | None = Field(None, description="As in a configuration's `channels`, secrets whole.")

    @model_validator(mode="after")
    def _one(self) -> TrialBody:
        if (self.merchant_id is None) != (self.alert_type is None):
            raise ValueError("merchant_id and alert_type belong together")
        if self.merchant_id is not None and self.settings is not None:
            raise ValueError("either merchant_id and alert_type, or settings")
        return self

    def asked(self, channel: str) -> Asked:
        return Asked(channel, self.merchant_id or "", self.alert_type or "", self.settings)


class ChannelEntry(BaseModel):
    """`configured`: messages can be sent; else `problem` says why not. Times are of the last 24 hours."""

    name: str
    configured: bool
    problem: str | None
    is_default: bool = Field(description="Of merchants who chose nothing else.")
    last_sent_at: datetime | None
    last_failed_at: datetime | None
    last_error: str
    waiting: int
    dead_letters: int
    retrying: int = Field(description="Of those that wait: tried before, and tried again.")
    retry_error: str = Field(description="What went wrong with one of these.")
    paused_until: datetime | None = Field(description="The provider asked to wait so long for a place.")


class ChannelList(BaseModel):
    data: list[ChannelEntry]


class ChannelPreview(BaseModel):
    channel: str
    preview: dict[str, Any] = Field(description="What would go to the provider, without secrets.")


class ChannelTried(BaseModel):
    channel: str
    delivered: bool
    message: str
    reference: str = Field(description="The provider's own.")


@dataclass(frozen=True, slots=True)
class ChannelSite:
    """`notifiers` are built when they are first asked for, with what keeps the others from being built."""

    database: Database
    clock: Callable[[], datetime]
    trial: ChannelTrial
    default: frozenset[str]
    built: Callable[[], tuple[dict[str, Notifier], dict[str, str]]]

    def entries(self) -> list[ChannelEntry]:
        notifiers, problems = self.built()
        with self.database.read() as connection:
            health = channel_health(connection, self.clock())
        return [
            _entry(name, name in notifiers, problems.get(name), name in self.default, health.get(name))
            for name in CHANNELS
        ]

    def notifier(self, name: str) -> Notifier:
        notifiers, problems = self.built()
        if name not in CHANNELS:
            raise NotFound(f"There is no channel {name}; there are {', '.join(CHANNELS)}.")
        if name not in notifiers:
            raise Conflict(f"{name} is not set up: {problems.get(name, '')}.")
        return notifiers[name]


def channels_blueprint(site: ChannelSite) -> APIBlueprint:
    routes = blueprint("channels", "Channels")
    _tell_errors(routes)

    @routes.get("/channels", responses={200: ChannelList})
    def channels() -> Response:
        """Which channels there are, whether they are set up, and how they have fared."""
        require(*MAY[Right.DIRECT])
        return answer(ChannelList(data=site.entries()))

    @routes.post("/channels/<name>/preview", responses={200: ChannelPreview, **problems(404, 409, 413, 415)})
    def preview_channel(path: ChannelPath, body: TrialBody) -> Response:
        """What a made-up attack would look like there. Nothing is sent."""
        require(*MAY[Right.DIRECT])
        notifier = site.notifier(path.name)
        shown = site.trial.preview(notifier, body.asked(path.name), site.clock())
        return answer(ChannelPreview(channel=path.name, preview=dict(shown)))

    @routes.post("/channels/<name>/test", responses={200: ChannelTried, **problems(404, 409, 413, 415)})
    def test_channel(path: ChannelPath, body: TrialBody) -> Response:
        """Send a message that says it is a test, at once; `delivered` is whether the provider took it."""
        by, now, asked = require(*MAY[Right.DIRECT]), site.clock(), body.asked(path.name)
        notifier = site.notifier(path.name)
        settings = site.trial.settings(asked)
        with transaction(site.database) as connection:  # before it is sent: nothing goes out unseen
            record_audit(
                connection,
                by,
                "channel_tested",
                now=now,
                account_id=asked.account_id or None,
                subject=f"channel/{path.name}",
                details={"settings": asked.whose},
            )
        tried = site.trial.send(notifier, settings, asked, now)
        return answer(
            ChannelTried(channel=path.name, delivered=tried.delivered, message=tried.words, reference=tried.reference)
        )

    return routes


def _tell_errors(routes: APIBlueprint) -> None:
    routes.register_error_handler(BadSettings, lambda error: problem(HTTPStatus.BAD_REQUEST, f"{error}."))
    routes.register_error_handler(ForbiddenAddress, lambda error: problem(HTTPStatus.BAD_REQUEST, f"{error}."))
    routes.register_error_handler(
        ConfigNotFound, lambda _: problem(HTTPStatus.NOT_FOUND, "That configuration does not choose this channel.")
    )


def _entry(
    name: str, configured: bool, problem: str | None, is_default: bool, health: ChannelHealth | None
) -> ChannelEntry:
    known = health or ChannelHealth()
    return ChannelEntry(
        name=name,
        configured=configured,
        problem=problem,
        is_default=is_default,
        last_sent_at=known.last_sent_at,
        last_failed_at=known.last_failed_at,
        last_error=known.last_error,
        waiting=known.waiting,
        dead_letters=known.dead_letters,
        retrying=known.retrying,
        retry_error=known.retry_error,
        paused_until=known.paused_until,
    )
