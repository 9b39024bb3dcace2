"""A request that comes again is answered as it was the first time, and changes nothing.

It is known by its X-Request-ID. A signed request without one is known by its signature, so that whoever copied it gains
nothing; one that has it is signed with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from http import HTTPStatus

import structlog
from flask import Request, Response, g
from pydantic import ConfigDict, Field

from webhook.domain.ledger import Changes
from webhook.ports import AlreadyAnswered, Answer, RepeatableRequest
from webhook.web.api_parameters import Query
from webhook.web.problems import problem

log = structlog.get_logger(__name__)

HEADER = "X-Request-ID"
SIGNED = "signature"
"""In place of the credential, for a request that is called by its signature."""
_NAME = re.compile(r"[\x21-\x7e]{1,128}")


class RequestId(Query):
    """Read by `repeatable_request`; here for the document."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    x_request_id: str | None = Field(
        None,
        alias="X-Request-ID",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="The sender's own name for this request: the same again is answered as the first time.",
    )


class DeliveryId(Query):
    """As RequestId, of a delivery: read by `repeatable_delivery`."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    x_request_id: str | None = Field(
        None,
        alias="X-Request-ID",
        description="The sender's own name for this delivery, 1 to 128 visible ASCII characters: the same again is "
        "answered as the first time. Another one is passed over, unless the delivery is signed: an alert must not be "
        "lost to it.",
    )


class BadRequestId(ValueError):  # noqa: N818 - a value that is refused
    """The header is too long, or holds what no id holds."""


def repeatable_request(
    request: Request, route: str, credential: str, answer: Callable[[Changes], Answer]
) -> RepeatableRequest | None:
    """The request by its own name, None when it has none; raise BadRequestId. Reads the body."""
    request_id = request.headers.get(HEADER)
    if request_id is None:
        request_id, credential = g.get("signature"), SIGNED  # whoever else holds a copy of it
    if request_id is None:
        return None
    if not _NAME.fullmatch(request_id):
        raise BadRequestId(f"{HEADER} must be 1 to 128 visible ASCII characters")
    body = request.query_string + b"\x00" + request.get_data()
    return RepeatableRequest(credential[:64], request_id, route, hashlib.sha256(body).hexdigest(), answer)


def repeatable_delivery(
    request: Request, route: str, credential: str, answer: Callable[[Changes], Answer]
) -> RepeatableRequest | None:
    """As `repeatable_request`, where an alert must not be lost to an optional header: a bad one is as good as none."""
    try:
        return repeatable_request(request, route, credential, answer)
    except BadRequestId as error:
        if not ignored(str(error)):
            raise
        return None


def ignored(why: str) -> bool:
    """Whether the header is passed over, which is logged. One that is signed is not: without it copies would pass."""
    if "signature" in g:
        return False
    log.warning("request_id_ignored", reason=why)
    return True


def again(answered: AlreadyAnswered) -> Response:
    """The first answer; 422 where the name was another request's."""
    if not answered.same:
        detail = f"this {HEADER} was used for another request within the last 24 hours"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    response = respond(answered.answer)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def respond(answer: Answer) -> Response:
    """JSON, a problem where the status is an error; `retry_after_seconds` of the body becomes a header as well."""
    error = answer.status >= HTTPStatus.BAD_REQUEST
    mimetype = "application/problem+json" if error else "application/json"
    response = Response(json.dumps(dict(answer.body)), status=int(answer.status), mimetype=mimetype)
    if "retry_after_seconds" in answer.body:
        response.headers["Retry-After"] = str(answer.body["retry_after_seconds"])
    return response
