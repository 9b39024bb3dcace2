"""What the SMS gateway reports: delivered or not. Nobody is logged in: its signature says that it is from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint

from webhook.notifiers.twilio import ENDINGS, signed, words_of
from webhook.storage.sms_log import StoredSmsLog, slot_id
from webhook.web.openapi import blueprint, problems
from webhook.web.problems import problem

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SmsReports:
    """`url` is where the gateway was told to report to, without the part that names the message."""

    log: StoredSmsLog
    url: str
    token: str = field(repr=False)


def sms_status_blueprint(reports: SmsReports | None) -> APIBlueprint:
    """None: there is no gateway, and nobody who could report."""
    routes = blueprint("sms", "Notifications")

    @routes.post("/sms/status", responses={204: None, **problems(403, 404)}, security=[{}])
    def sms_status() -> Response:
        """A status callback of Twilio, as a form with `MessageSid`, `MessageStatus` and, of a failure, `ErrorCode`.

        It needs no login but `X-Twilio-Signature`.
        """
        if reports is None:
            return problem(HTTPStatus.NOT_FOUND, "There is no SMS gateway.")
        url = reports.url.partition("?")[0] + "?" + request.query_string.decode("latin-1")
        given = request.headers.get("X-Twilio-Signature", "")
        if not signed(given, url, request.form.items(multi=True), reports.token):
            return problem(HTTPStatus.FORBIDDEN, "The signature is not that of this report.")
        return _take(reports)

    return routes


def _take(reports: SmsReports) -> Response:
    ending = ENDINGS.get(request.form.get("MessageStatus", "").lower())
    slot = slot_id(request.args.get("m", ""))
    if slot is None:
        return problem(HTTPStatus.NOT_FOUND, "There is no such message.")
    if ending is None:
        return Response(status=HTTPStatus.NO_CONTENT.value)
    reference = request.form.get("MessageSid", "")[:64]
    error = words_of(request.form.get("ErrorCode", "")) if ending == "FAILED" else ""
    heard = reports.log.heard(slot, reference, ending, error)
    log.info("sms_reported", message=reference, status=ending, heard=heard, error=error)
    if not heard:
        return problem(HTTPStatus.NOT_FOUND, "There is no such message.")
    return Response(status=HTTPStatus.NO_CONTENT.value)
