"""/api/v1/push: browsers that want push messages. Each caller sees and ends its own subscriptions alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from werkzeug.exceptions import NotFound

from webhook.domain.access import Tenure
from webhook.domain.severity import Severity
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.notifiers.web_push import Answer, Outcome, Push, Service, Urgency, WebPush, check_keys
from webhook.ports import SecretUnreadable
from webhook.storage.push import (
    NewSubscription,
    OthersSubscription,
    PushSubscriptions,
    SubscriptionRecord,
    TooManySubscriptions,
)
from webhook.web.access import principal
from webhook.web.api import answer
from webhook.web.openapi import blueprint, problems
from webhook.web.problems import problem

NONE = "There is no such subscription of yours."
TEST_TTL = timedelta(minutes=1)

Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}={0,2}$")]


class SubscriptionKeys(BaseModel):
    """What only this browser can open messages with, in base64url."""

    p256dh: Base64
    auth: Base64


class SubscriptionBody(BaseModel):
    """A browser's `PushSubscription.toJSON()`, and from which severity on it is to be told."""

    model_config = ConfigDict(extra="forbid")
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^[!-~]+$")]
    keys: SubscriptionKeys
    expirationTime: float | None = None  # noqa: N815 - the browser's name; its push service says when it is gone
    min_severity: Severity = Severity.P3


class SubscriptionPath(BaseModel):
    subscription_id: UUID


class PushKey(BaseModel):
    """`public_key` is a browser's `applicationServerKey`; null where push is not set up."""

    public_key: str | None


class SubscriptionEntry(BaseModel):
    """Of its address the host alone. `account_ids` is empty for staff, who are told of all."""

    id: str
    service: str
    min_severity: Severity
    account_ids: list[str]
    created_at: str
    expires_at: str | None
    last_success_at: str | None
    last_failure_at: str | None
    last_failure: str


class SubscriptionList(BaseModel):
    data: list[SubscriptionEntry]


class TestResult(BaseModel):
    """The push service has taken the message; when the browser shows it is not known."""

    message: str = Field(json_schema_extra={"example": "Sent"})


@dataclass(frozen=True, slots=True)
class PushSite:
    """What the views need. Without keys `push` and `public_key` are None, and nobody can subscribe."""

    subscriptions: PushSubscriptions
    clock: Callable[[], datetime]
    service: Service
    public_key: str | None = None
    push: WebPush | None = None


def push_blueprint(site: PushSite, tenure: Callable[[], Tenure]) -> APIBlueprint:
    """`tenure` is of the request that is being handled."""
    routes = blueprint("push", "Push messages")
    routes.register_error_handler(
        TooManySubscriptions,
        lambda _: problem(HTTPStatus.CONFLICT, "This key or login has as many subscriptions as it may: end one first."),
    )
    routes.register_error_handler(
        OthersSubscription, lambda _: problem(HTTPStatus.CONFLICT, "This endpoint is known with other keys.")
    )
    routes.register_error_handler(
        SecretUnreadable,
        lambda error: problem(HTTPStatus.SERVICE_UNAVAILABLE, f"Secrets cannot be stored: {error}.", Retry_After="60"),
    )
    _add_reading(routes, site)
    _add_subscribing(routes, site, tenure)
    _add_test(routes, site)
    return routes


def _add_reading(routes: APIBlueprint, site: PushSite) -> None:
    @routes.get("/push/key", responses={200: PushKey})
    def push_key() -> Response:
        """The key that a browser subscribes with."""
        return answer(PushKey(public_key=site.public_key))

    @routes.get("/push/subscriptions", responses={200: SubscriptionList})
    def subscriptions() -> Response:
        """The browsers that the caller's key or login has subscribed, newest first."""
        found = site.subscriptions.own(principal())
        return answer(SubscriptionList(data=[_entry(record) for record in found]))


def _add_subscribing(routes: APIBlueprint, site: PushSite, tenure: Callable[[], Tenure]) -> None:
    created = {201: SubscriptionEntry, 200: SubscriptionEntry, **problems(409, 413, 415)}

    @routes.post("/push/subscriptions", responses=created)
    def subscribe(body: SubscriptionBody) -> Response:
        """Tell a browser of what the caller may read, as long as its key or login lasts; once more changes it."""
        if site.public_key is None:
            return problem(HTTPStatus.CONFLICT, "Push messages are not set up here.")
        try:
            site.service.check(body.endpoint)
            check_keys(body.keys.p256dh, body.keys.auth)
        except ForbiddenAddress as error:
            return problem(HTTPStatus.BAD_REQUEST, f"endpoint: {error}.")
        except ValueError as error:
            return problem(HTTPStatus.BAD_REQUEST, f"keys: {error}.")
        new = NewSubscription(body.endpoint, body.keys.p256dh, body.keys.auth, body.min_severity)
        record, fresh = site.subscriptions.subscribe(new, principal(), tenure(), site.clock())
        return answer(_entry(record), HTTPStatus.CREATED if fresh else HTTPStatus.OK)

    @routes.delete("/push/subscriptions/<uuid:subscription_id>", responses={200: SubscriptionEntry, **problems(404)})
    def unsubscribe(path: SubscriptionPath) -> Response:
        """End one."""
        ended = site.subscriptions.unsubscribe(str(path.subscription_id), principal(), site.clock())
        if ended is None:
            raise NotFound(NONE)
        return answer(_entry(ended))


def _add_test(routes: APIBlueprint, site: PushSite) -> None:
    errors = problems(404, 409, 502)

    @routes.post("/push/subscriptions/<uuid:subscription_id>/test", responses={200: TestResult, **errors})
    def try_out(path: SubscriptionPath) -> Response:
        """Push a message that says that it is a test; 502 says what its push service answered."""
        target = site.subscriptions.target(str(path.subscription_id), principal())
        if target is None:
            raise NotFound(NONE)
        if site.push is None:
            return problem(HTTPStatus.CONFLICT, "Push messages are not set up here.")
        said = site.push.push(target, _test_message(site.clock()))
        if said.outcome is Outcome.SENT:
            return answer(TestResult(message="Sent"))
        if said.outcome is Outcome.GONE:
            site.subscriptions.unsubscribe(target.id, principal(), site.clock(), reason="its push service forgot it")
            raise NotFound("Its push service does not know this browser any more: subscribe anew.")
        return problem(HTTPStatus.BAD_GATEWAY, _words(said))


def _words(said: Answer) -> str:
    what = "asks to wait or cannot be reached" if said.outcome is Outcome.LATER else "refuses the message"
    return f"The push service {what}: {said.words}."


def _test_message(now: datetime) -> Push:
    payload = {
        "notification_id": str(uuid4()),
        "type": "test",
        "title": "Sentinel can reach you",
        "body": "This is a test. Fraud alerts will look like this.",
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "actions": [{"label": "Dismiss", "action": "dismiss"}],
    }
    return Push(json.dumps(payload).encode(), "test", Urgency.HIGH, TEST_TTL)


def _entry(record: SubscriptionRecord) -> SubscriptionEntry:
    names = ("created_at", "expires_at", "last_success_at", "last_failure_at")
    times = {name: _time(getattr(record, name)) for name in names}
    return SubscriptionEntry(
        id=record.id,
        service=record.service,
        min_severity=record.min_severity,
        account_ids=list(record.account_ids),
        last_failure=record.last_failure,
        created_at=times.pop("created_at") or "",
        **times,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
