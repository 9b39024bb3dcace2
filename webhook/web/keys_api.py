"""/api/v1/api-keys: who may come in. For admins; a key is told once, in the answer that makes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from webhook.domain.access import MAY, Principal, Right, Role
from webhook.storage.database import Database
from webhook.storage.keys import (
    KeyEnded,
    KeyNotFound,
    KeyRecord,
    KeyReplaced,
    NewKey,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from webhook.storage.transactions import transaction
from webhook.web.access import require
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import SAID, Instant
from webhook.web.problems import problem

LONGEST_GRACE_HOURS = 24 * 30
MOST_ACCOUNTS = 1000

AccountId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=SAID)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=SAID)]


_ACCOUNTS_OF_ROLE: JsonDict = {
    "anyOf": [
        {
            "properties": {"role": {"enum": [Role.MERCHANT.value]}, "account_ids": {"type": "array", "minItems": 1}},
            "required": ["account_ids"],
        },
        {
            "properties": {
                "role": {"enum": [Role.ADMIN.value, Role.OPS.value]},
                "account_ids": {"type": "array", "maxItems": 0},
            }
        },
    ]
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKeyBody(_Strict):
    """`account_ids` for the role merchant, and for no other."""

    model_config = ConfigDict(json_schema_extra=_ACCOUNTS_OF_ROLE)
    name: Name
    role: Role
    account_ids: Annotated[list[AccountId], Field(max_length=MOST_ACCOUNTS)] = []
    expires_at: Instant | None = None


class RotateBody(_Strict):
    """For how long the old key goes on."""

    grace_hours: Annotated[float, Field(ge=0, le=LONGEST_GRACE_HOURS)] = 24


class KeyPath(BaseModel):
    prefix: Annotated[str, StringConstraints(pattern=r"^sk_[a-z0-9]{8}$")]


class KeyEntry(BaseModel):
    """A key as it is listed; `replaced_by` is the prefix of the key that a rotation made of it."""

    prefix: str
    name: str
    role: Role
    account_ids: list[str]
    state: str
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    replaced_by: str | None


class KeyMade(KeyEntry):
    """`api_key` is shown this once."""

    api_key: str


class KeyList(BaseModel):
    data: list[KeyEntry]


def keys_blueprint(database: Database, clock: Callable[[], datetime]) -> APIBlueprint:
    routes = blueprint("api_keys", "API keys")
    routes.register_error_handler(KeyNotFound, lambda _: problem(HTTPStatus.NOT_FOUND, "There is no such key."))
    routes.register_error_handler(KeyEnded, lambda error: problem(HTTPStatus.CONFLICT, f"{error}."))
    routes.register_error_handler(
        KeyReplaced, lambda error: problem(HTTPStatus.CONFLICT, f"{error}.", {"successor": error.successor})
    )
    _add_reading(routes, database, clock)
    _add_changes(routes, database, clock)
    return routes


def _add_reading(routes: APIBlueprint, database: Database, clock: Callable[[], datetime]) -> None:
    @routes.get("/api-keys", responses={200: KeyList})
    def api_keys() -> Response:
        """All keys, newest first, ended ones too."""
        _admin()
        with database.read() as connection:
            found = list_keys(connection)
        return _json(KeyList(data=[_entry(record, clock()) for record in found]))


def _add_changes(routes: APIBlueprint, database: Database, clock: Callable[[], datetime]) -> None:
    @routes.post("/api-keys", responses={201: KeyMade, **problems(413, 415)})
    def create_api_key(body: NewKeyBody) -> Response:
        """Make a key."""
        by, now = _admin(), clock()
        if body.expires_at is not None and body.expires_at <= now:
            return problem(HTTPStatus.BAD_REQUEST, "expires_at: is past.")
        try:
            new = NewKey(body.name, body.role, tuple(body.account_ids), body.expires_at)
        except ValueError as error:
            return problem(HTTPStatus.BAD_REQUEST, f"account_ids: {error}.")
        with transaction(database) as connection:
            record, key = create_key(connection, new, by, now)
        return _made(record, key, now)

    @routes.post("/api-keys/<prefix>/rotate", responses={201: KeyMade, **problems(404, 409, 413, 415)})
    def rotate_api_key(path: KeyPath, body: RotateBody) -> Response:
        """A new key with the same rights; the old one goes on for a while."""
        by, now = _admin(), clock()
        with transaction(database) as connection:
            record, key = rotate_key(connection, path.prefix, timedelta(hours=body.grace_hours), by, now)
        return _made(record, key, now)

    @routes.post("/api-keys/<prefix>/revoke", responses={200: KeyEntry, **problems(404, 409)})
    def revoke_api_key(path: KeyPath) -> Response:
        """End a key. Processes that have just let it in forget it within seconds."""
        by, now = _admin(), clock()
        with transaction(database) as connection:
            record = revoke_key(connection, path.prefix, by, now)
        return _json(_entry(record, now))


def _admin() -> Principal:
    return require(*MAY[Right.KEYS])


def _made(record: KeyRecord, key: str, now: datetime) -> Response:
    return _json(KeyMade(**_entry(record, now).model_dump(), api_key=key), HTTPStatus.CREATED)


def _entry(record: KeyRecord, now: datetime) -> KeyEntry:
    times = {name: _time(getattr(record, name)) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return KeyEntry(
        prefix=record.prefix,
        name=record.name,
        role=record.role,
        account_ids=list(record.account_ids),
        state=record.state(now),
        created_by=record.created_by,
        replaced_by=record.replaced_by,
        **times,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def _json(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(model.model_dump_json(), status=status.value, mimetype="application/json")
