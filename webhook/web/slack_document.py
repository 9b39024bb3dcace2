"""Slack's buttons in the API's document. Their route is its own (`webhook.web.slack_actions`)."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from webhook.web.openapi import blueprint, problems

_FORM = "application/x-www-form-urlencoded"


class SlackHeaders(BaseModel):
    timestamp: str = Field("", alias="X-Slack-Request-Timestamp", description="Unix seconds, at most 5 minutes off.")
    signature: str = Field("", alias="X-Slack-Signature", description="`v0=` and an HMAC-SHA256, as Slack signs.")


class SlackInteraction(BaseModel):
    """As Slack sends it when somebody presses a button of a message or sends its form."""

    payload: str = Field("", description="JSON: `block_actions` or `view_submission`.")
    ssl_check: Literal["1"] | None = Field(None, description="Slack looks at the certificate: answered with 200.")


def slack_document() -> APIBlueprint:
    """For `describe`."""
    routes = blueprint("slack", "Slack")

    @routes.post("/slack/interactions", responses={200: None, **problems(404, 413)})
    def slack_interactions(header: SlackHeaders, form: SlackInteraction) -> Response:
        """Do what was pressed in Slack. The signature is the credential; 404 where no `signing_secret` is set."""
        raise NotImplementedError

    operation = routes.paths["/api/v1/slack/interactions"].post
    operation.security = []  # none of the others: the signature, which no scheme of OpenAPI describes
    body = operation.requestBody
    body.content = {_FORM: next(iter(body.content.values()))}  # the library knows multipart alone
    return routes
