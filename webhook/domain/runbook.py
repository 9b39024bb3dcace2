"""Where the page leads that tells what to do about an alert: a rule names it in its annotation `runbook_url`."""

from __future__ import annotations

from urllib.parse import urlsplit

_LONGEST = 1_000


def runbook_address(given: str, public_url: str) -> str:
    """A path is a page of our own; empty for what is no address of a web page: it comes from outside."""
    if not given or len(given) > _LONGEST or not given.isprintable() or " " in given:
        return ""
    if given.startswith("/") and not given.startswith(("//", "/\\")):
        return f"{public_url.rstrip('/')}{given}"
    try:
        parts = urlsplit(given)
        of_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return ""
    return given if of_web else ""
