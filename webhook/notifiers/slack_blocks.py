"""A message as Slack blocks, within Slack's limits. Nothing from outside is markup, mention or link."""

from __future__ import annotations

from typing import Any

from webhook.domain.alert import NotifyReason
from webhook.domain.message import SEVERITY_WORDS, Message, one_line
from webhook.domain.severity import Severity

HEADER, FIELD, FIELDS, SECTION, FALLBACK = 150, 2000, 10, 3000, 500

_SIGNS = {Severity.P0: "🆘", Severity.P1: "🔴", Severity.P2: "🟠", Severity.P3: "🟡"}
_ENDED = "✅"


def blocks(message: Message) -> list[dict[str, Any]]:
    facts = [("Severity", severity_text(message)), ("Merchant", message.merchant), *message.facts]
    return [
        {"type": "header", "text": _plain(one_line(f"{_sign(message)} {message.title}", HEADER))},
        {"type": "section", "fields": [_field(label, value) for label, value in facts[:FIELDS]]},
        {"type": "section", "text": _marked(f"*Summary*\n{_cut(message.text, message.url)}")},
        {"type": "section", "text": _marked(f"*What to do*\n{_cut(message.suggested_action, message.url)}")},
        {"type": "context", "elements": [_plain(f"Sentinel · told at {message.created_at:%Y-%m-%d %H:%M:%S} UTC")]},
        {
            "type": "actions",
            "elements": [
                {
                    "type": "button",
                    "text": _plain("View Details"),
                    "url": message.url,
                    "action_id": "view_details",
                }
            ],
        },
    ]


def fallback_text(message: Message) -> str:
    """What notifications and screen readers show instead of the blocks."""
    words = [severity_text(message), message.title, *(f"{label}: {value}" for label, value in message.facts[:2])]
    return escape(one_line(f"{_sign(message)} {' · '.join(words)}", FALLBACK))


def severity_text(message: Message) -> str:
    text = f"{message.severity} - {SEVERITY_WORDS[message.severity]}"
    return f"{text}, ended" if message.reason is NotifyReason.RESOLVED else text


def escape(text: str) -> str:
    """Slack's three control characters, without which there is no mention, link or command."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _sign(message: Message) -> str:
    return _ENDED if message.reason is NotifyReason.RESOLVED else _SIGNS[message.severity]


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _marked(text: str) -> dict[str, Any]:
    """`verbatim`: Slack does not look for names and addresses in it by itself."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _field(label: str, value: str) -> dict[str, Any]:
    return _marked(f"*{escape(label)}*\n{escape(one_line(value, FIELD // 10))}")


def _cut(text: str, url: str) -> str:
    """Escaped text that fits a section beside its heading; what is cut is linked."""
    limit = SECTION - 100
    if len(escape(text)) <= limit:
        return escape(text)
    more = f"… <{escape(url)}|Read on>"
    kept = text[: limit - len(more)]
    while len(escape(kept)) + len(more) > limit:
        kept = kept[: -max(1, (len(escape(kept)) + len(more) - limit) // 5)]
    return escape(kept.rstrip()) + more
