"""Forms of what messages are addressed to: raise ValueError for what has another."""

from __future__ import annotations

import re

_EMAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")

SCHEMAS = frozenset(
    (
        "brevo",
        "clicksend",
        "dingtalk",
        "discord",
        "feishu",
        "firehydrant",
        "flock",
        "gchat",
        "ifttt",
        "ilert",
        "incidentio",
        "join",
        "lark",
        "line",
        "mailersend",
        "msgbird",
        "nexmo",
        "o365",
        "onesignal",
        "pagertree",
        "pbul",
        "plivo",
        "postmark",
        "pover",
        "prowl",
        "resend",
        "ringc",
        "ryver",
        "signl4",
        "simplepush",
        "sinch",
        "sns",
        "spike",
        "splunk",
        "spush",
        "squadcast",
        "tgram",
        "threema",
        "twist",
        "victorops",
        "vonage",
        "webex",
        "wecombot",
        "whatsapp",
        "wxteams",
    )
)
"""Services of fixed hosts: none that takes a host, and none of the machine's own."""


def email_address(text: str) -> str:
    """One plain address: no name, no list, nothing that ends a header."""
    local = text.partition("@")[0]
    if not _EMAIL.fullmatch(text) or local.startswith(".") or local.endswith(".") or ".." in local:
        raise ValueError("must be an e-mail address, such as name@example.com")
    return text


def phone_number(text: str) -> str:
    if not _E164.fullmatch(text):
        raise ValueError("must be a phone number with its country code, such as +1234567890")
    return text


def service_url(text: str) -> str:
    """A URL for apprise, of a service that is allowed."""
    schema, separator, rest = text.partition("://")
    if not separator or schema.lower() not in SCHEMAS:
        raise ValueError(f"must begin with one of {', '.join(sorted(SCHEMAS))}, and ://")
    if not rest or not text.isprintable() or " " in text:
        raise ValueError("must be one URL without spaces")
    return text
