"""What the API's views share: the store, the clock, who asks, and on which version of an alert they decided."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel

from webhook.domain.action import Doing, VersionChanged
from webhook.domain.alert import AlertTypes
from webhook.ports import AlertNotFound
from webhook.storage import queries
from webhook.storage.acting import AlertActions
from webhook.storage.database import Database
from webhook.storage.dead_letters import DeadLetters
from webhook.storage.records import AlertRecord
from webhook.web.access import principal
from webhook.web.contracts import Charts
from webhook.web.openapi import blueprint
from webhook.web.problems import problem

T = TypeVar("T")
_ETAG = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Api:
    database: Database
    clock: Callable[[], datetime]
    actions: AlertActions
    letters: DeadLetters
    charts: Charts | None
    types: AlertTypes

    def doing(self, actor: str | None, version: int | None = None) -> Doing:
        """Of this request, on the version that it names."""
        who = principal()
        return Doing(
            actor=actor or who.name,
            by=who,
            now=self.clock(),
            versions=named_versions(version),
        )


def named_versions(version: int | None) -> frozenset[int] | None:
    """Of what is to be changed; None: any. If-Match and `version` both have to hold where both are given."""
    given = None if version is None else frozenset({version})
    if if_match_given() and not request.if_match.star_tag:
        tags = request.if_match.as_set()
        matched = frozenset(int(tag) for tag in tags if _ETAG.fullmatch(tag))
        given = matched if given is None else matched & given
    return given


def if_match_given() -> bool:
    """Even where nothing in it can be read: whoever sends it does not want to change whatever there is."""
    return "If-Match" in request.headers


def seen(connection: sa.Connection, alert_id: UUID) -> AlertRecord:
    """The alert, when who asks may see it; else AlertNotFound, as if there were none."""
    record = queries.alert_by_id(connection, str(alert_id), principal().accounts)
    if record is None:
        raise AlertNotFound(str(alert_id))
    return record


def one_page(found: Sequence[T], limit: int) -> tuple[Sequence[T], T | None]:
    """Of `limit` + 1 rows that were asked for: those to show, and the last of them where there are more."""
    shown = found[:limit]
    return shown, shown[-1] if len(found) > limit else None


def answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK, *, version: int | None = None) -> Response:
    """As JSON; with an alert's version as ETag, for If-Match."""
    response = Response(model.model_dump_json(), status=status, mimetype="application/json")
    if version is not None:
        response.set_etag(str(version))
    return response


def alert_routes(name: str, tag: str) -> APIBlueprint:
    """Routes that change alerts: a version that has passed is 412 where a header named it, 409 where the body did."""
    routes = blueprint(name, tag)

    @routes.errorhandler(VersionChanged)
    def changed(error: VersionChanged) -> Response:
        status = HTTPStatus.PRECONDITION_FAILED if if_match_given() else HTTPStatus.CONFLICT
        return problem(status, f"{error}.", {"version": error.present}, ETag=f'"{error.present}"')

    return routes
