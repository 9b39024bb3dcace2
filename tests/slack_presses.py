"""What Slack sends when somebody presses a button or sends a form, signed as Slack signs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fakes_slack import CHANNEL_ID
from slack_sdk.signature import SignatureVerifier

PATH = "/api/v1/slack/interactions"
SECRET = "a-signing-secret-of-the-app"
USER = {"id": "U0ANA", "username": "ana", "name": "Ana Ruiz", "team_id": "T0ACME"}


def button(message: dict[str, Any], action: str, *, choose: int = 0, **changes: Any) -> dict[str, Any]:
    """`block_actions` of what a message really shows; of a menu its entry `choose`."""
    found = next(element for element in message["blocks"][-1]["elements"] if element["action_id"] == action)
    sent = {"type": found["type"], "action_id": action, "block_id": "b", "action_ts": "1"}
    if found["type"] == "static_select":
        sent["selected_option"] = found["options"][choose]
    elif "value" in found:
        sent["value"] = found["value"]
    return {
        "type": "block_actions",
        "team": {"id": "T0ACME", "domain": "acme"},
        "user": USER,
        "api_app_id": "A0",
        "container": {"type": "message", "message_ts": message["ts"], "channel_id": CHANNEL_ID, "is_ephemeral": False},
        "channel": {"id": CHANNEL_ID, "name": "fraud"},
        "message": {"type": "message", "ts": message["ts"], "blocks": message["blocks"]},
        "trigger_id": "123.456.abc",
        "response_url": "",
        "actions": [sent],
        **changes,
    }


def form(view: dict[str, Any], reason: str, feedback: str | None, **changes: Any) -> dict[str, Any]:
    """`view_submission` of a form that was opened."""
    values = {
        "reason": {"reason": {"type": "radio_buttons", "selected_option": {"value": reason}}},
        "feedback": {"feedback": {"type": "plain_text_input", "value": feedback}},
    }
    sent = {**view, "state": {"values": values}}
    return {"type": "view_submission", "user": USER, "team": {"id": "T0ACME"}, "view": sent, **changes}


def body_of(payload: dict[str, Any]) -> bytes:
    return urlencode({"payload": json.dumps(payload)}).encode()


def headers(body: bytes, at: datetime, secret: str = SECRET, kind: str = "x-www-form-urlencoded") -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    return {
        "Content-Type": f"application/{kind}",
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body) or "",
    }
