"""A message as Slack blocks, within Slack's limits. Nothing from outside is markup, mention or link."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from webhook.domain.action import DismissReason
from webhook.domain.alert import OPERATIONS_ACCOUNT, AlertStatus, NotifyReason
from webhook.domain.message import SEVERITY_WORDS, TITLE_LENGTH, Message, one_line
from webhook.domain.metric import format_time
from webhook.domain.severity import Severity
from webhook.domain.summary import story_of

HEADER, FIELD, FIELDS, SECTION, FALLBACK = 150, 2000, 10, 3000, 500
LAST_FACTS = 3
"""Since when, how long, how often: they stay where there are more metrics than fields."""

VIEW, ACKNOWLEDGE, DISMISS, SNOOZE, DISMISSAL = "view_details", "acknowledge", "dismiss", "snooze", "dismissal"
"""`action_id` of what can be pressed, and `callback_id` of the form."""

REASON, FEEDBACK = "reason", "feedback"
"""`block_id` and `action_id` of what the form asks."""

SNOOZES: Mapping[int, str] = {30: "30 minutes", 60: "1 hour", 240: "4 hours", 1440: "24 hours"}
"""Minutes, and what the menu calls them."""

LONGEST_FEEDBACK = 2000

_SIGNS = {Severity.P0: "🆘", Severity.P1: "🔴", Severity.P2: "🟠", Severity.P3: "🟡"}
_ENDED, _DISMISSED, _SAID = "✅", "⚪", "💬"
_NO_SPACE = "\u200b"
_MARKUP = re.compile(r"[*_~`]|:(?=[a-z0-9_+'-]+:)")
_PERSON = re.compile(r"slack:\w+ \((?P<name>.+)\)")
_BROADCAST = frozenset({NotifyReason.ESCALATED, NotifyReason.RESOLVED, NotifyReason.RESEND, NotifyReason.MENTION})
_NEWS = {
    NotifyReason.ESCALATED: "Now {severity}",
    NotifyReason.FLAPPING: "Comes and goes",
    NotifyReason.RESOLVED: "It has ended",
    NotifyReason.RESEND: "Sent again",
}


def blocks(message: Message, *, buttons: bool = False) -> list[dict[str, Any]]:
    """The message that stands in the channel. `buttons`: those that act, for as long as there is something to do."""
    facts = [("Severity", severity_text(message)), ("Merchant", message.merchant), *message.facts]
    if len(facts) > FIELDS:
        facts = [*facts[: FIELDS - LAST_FACTS], *facts[-LAST_FACTS:]]
    to_do = f"*What to do*\n{_cut(message.suggested_action, message.url)}"
    return [
        {"type": "header", "text": _plain(one_line(f"{_sign(message)} {message.title}", HEADER))},
        *([{"type": "section", "text": _marked(_state(message))}] if message.alone else []),
        {"type": "section", "fields": [_field(label, value) for label, value in facts]},
        {"type": "section", "text": _marked(f"*Summary*\n{_cut(message.text, message.url)}")},
        *([] if message.attention.dismissed else [{"type": "section", "text": _marked(to_do)}]),
        *([{"type": "section", "text": _marked(_runbook(message.runbook_url))}] if message.runbook_url else []),
        {"type": "context", "elements": [_plain(f"Sentinel · as of {format_time(message.created_at)}")]},
        {
            "type": "actions",
            "elements": [
                _view(message),
                *(_acting(message) if buttons and message.alone and not _over(message) else []),
            ],
        },
    ]


def reply_blocks(message: Message) -> list[dict[str, Any]]:
    """A later message as one short entry of the thread; of a comment what was said."""
    if message.reason is NotifyReason.MENTION:
        head = f"{_SAID} *{inert(one_line(message.title, HEADER))}*"
        return [{"type": "section", "text": _marked(f"{head}\n{_cut(message.text, message.url, len(head))}")}]
    lines = [f"{_sign(message)} *{inert(_news(message))}* · <{escape(message.url)}|View details>"]
    lines += [" · ".join(inert(one_line(f"{label}: {value}", FIELD // 10)) for label, value in _short(message.facts))]
    return [{"type": "section", "text": _marked("\n".join(lines))}]


def reply_text(message: Message) -> str:
    """The same without markup, for notifications and screen readers."""
    if message.reason is NotifyReason.MENTION:
        return escape(one_line(f"{_SAID} {message.title}: {message.text}", FALLBACK))
    facts = [f"{label}: {value}" for label, value in _short(message.facts)]
    return escape(one_line(" · ".join([f"{_sign(message)} {_news(message)}", *facts]), FALLBACK))


def is_broadcast(message: Message) -> bool:
    """Whether the channel sees the reply too: an update in place notifies nobody, so what is grave and the end are."""
    return message.reason in _BROADCAST


def fallback_text(message: Message) -> str:
    """What notifications and screen readers show instead of the blocks."""
    words = [severity_text(message), message.title, *(f"{label}: {value}" for label, value in message.facts[:2])]
    return escape(one_line(f"{_sign(message)} {' · '.join(words)}", FALLBACK))


def dismissal(title: str, place: str) -> dict[str, Any]:
    """The form that asks why an alert is dismissed. `place` comes back with it, at most 3,000 characters."""
    reasons = [_option(reason.replace("_", " ").capitalize(), reason.value) for reason in DismissReason]
    return {
        "type": "modal",
        "callback_id": DISMISSAL,
        "private_metadata": place,
        "title": _plain("Dismiss alert"),
        "submit": _plain("Dismiss"),
        "close": _plain("Cancel"),
        "blocks": [
            {
                "type": "section",
                "text": _marked(f"*{inert(one_line(title, HEADER))}*\nIt was no attack; nobody is told more of it."),
            },
            {
                "type": "input",
                "block_id": REASON,
                "label": _plain("What was it?"),
                "element": {
                    "type": "radio_buttons",
                    "action_id": REASON,
                    "options": reasons,
                    "initial_option": reasons[0],
                },
            },
            {
                "type": "input",
                "block_id": FEEDBACK,
                "optional": True,
                "label": _plain("What should Sentinel know?"),
                "element": {
                    "type": "plain_text_input",
                    "action_id": FEEDBACK,
                    "multiline": True,
                    "max_length": LONGEST_FEEDBACK,
                },
            },
        ],
    }


def severity_text(message: Message) -> str:
    text = f"{message.severity} - {SEVERITY_WORDS[message.severity]}"
    return f"{text}, ended" if _ended(message) else text


def escape(text: str) -> str:
    """Slack's three control characters, without which there is no mention, link or command."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def inert(text: str) -> str:
    """Escaped for a text with markup, and none begins in it.

    Before what would begin bold, struck or code text, or be an emoji's name, stands a space without width.
    """
    return escape(_MARKUP.sub(f"{_NO_SPACE}\\g<0>", text))


def _runbook(url: str) -> str:
    """As a link; a bar in it would end the address."""
    return f"<{escape(url).replace('|', '%7C')}|Open the runbook>"


def _ended(message: Message) -> bool:
    return NotifyReason.RESOLVED is message.reason or AlertStatus.RESOLVED is message.status


def _over(message: Message) -> bool:
    return _ended(message) or message.attention.dismissed


def _sign(message: Message) -> str:
    if message.attention.dismissed:
        return _DISMISSED
    return _ENDED if _ended(message) else _SIGNS[message.severity]


def _state(message: Message) -> str:
    """Going on, ended or dismissed, and what people have done about it. Names are cut: they may be anything."""
    attention = message.attention
    if attention.dismissed:
        words = [f"*Dismissed* by {_person(attention.closed_by)}"]
        if attention.closing_note:
            words = [f"{words[0]}: {inert(one_line(attention.closing_note, FIELD // 10))}"]
    elif _ended(message):
        words = [f"*Ended*, says {_person(attention.closed_by)}" if attention.closed_by else "*Ended*"]
    else:
        words = ["*Going on*"]
    if attention.acknowledged_by:
        words.append(f"acknowledged by {_person(attention.acknowledged_by)}")
    if attention.snoozed_until is not None and not _over(message):
        until = f"{attention.snoozed_until:%Y-%m-%d %H:%M} UTC"
        words.append(f"snoozed until {until} by {_person(attention.snoozed_by)}")
    if len(words) == 1 and not _over(message):
        words.append("nobody has acknowledged it yet")
    return " · ".join(words)


def _person(actor: str) -> str:
    """Who acted in Slack is named as there, without the id that tells two of one name apart."""
    found = _PERSON.fullmatch(actor)
    return inert(one_line(found["name"] if found else actor, FIELD // 20))


def _news(message: Message) -> str:
    news = _NEWS.get(message.reason, "Goes on").format(severity=severity_text(message))
    if message.account_id == OPERATIONS_ACCOUNT and message.rule_summary.strip():
        return f"{news} · {one_line(message.rule_summary, TITLE_LENGTH)}"
    return f"{news} · {story_of(message.alert_type).name} · {message.merchant}"


def _short(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The most important metrics, how long it has lasted, and how often it triggered."""
    return [*facts[:-LAST_FACTS][:2], *facts[-LAST_FACTS:][1:]]


def _view(message: Message) -> dict[str, Any]:
    return {"type": "button", "text": _plain("View details"), "url": message.url, "action_id": VIEW}


def _acting(message: Message) -> list[dict[str, Any]]:
    """What can be done, with the alert and the severity that whoever presses it has seen."""
    seen = f"{message.alert_id}/{message.severity}"
    menu = {
        "type": "static_select",
        "action_id": SNOOZE,
        "placeholder": _plain("Snooze for…"),
        "options": [_option(words, f"{seen}/{minutes}") for minutes, words in SNOOZES.items()],
    }
    acknowledge = {
        "type": "button",
        "text": _plain("Acknowledge"),
        "style": "primary",
        "action_id": ACKNOWLEDGE,
        "value": seen,
    }
    dismiss = {"type": "button", "text": _plain("Dismiss…"), "action_id": DISMISS, "value": seen}
    return [*([] if message.attention.acknowledged_by else [acknowledge]), dismiss, menu]


def _option(words: str, value: str) -> dict[str, Any]:
    return {"text": _plain(words), "value": value}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _marked(text: str) -> dict[str, Any]:
    """`verbatim`: Slack does not look for names and addresses in it by itself."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _field(label: str, value: str) -> dict[str, Any]:
    return _marked(f"*{inert(label)}*\n{inert(one_line(value, FIELD // 10))}")


def _cut(text: str, url: str, heading: int = 100) -> str:
    """Escaped text that fits a section beside a heading of so many characters; what is cut is linked."""
    limit = SECTION - heading - 1
    if len(inert(text)) <= limit:
        return inert(text)
    more = f"… <{escape(url)}|Read on>"
    kept = text[: limit - len(more)]
    while len(inert(kept)) + len(more) > limit:
        kept = kept[: -max(1, (len(inert(kept)) + len(more) - limit) // 5)]
    return inert(kept.rstrip()) + more
