"""Which form of the exposition a client gets: content negotiation by quality values (RFC 9110, section 12)."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from functools import lru_cache
from urllib.request import parse_http_list

from exporter.exposition import Form

_OPENMETRICS_VERSIONS = ("", "1.0.0")
_TEXT_VERSIONS = ("", "0.0.4", "1.0.0")  # 1.0.0 differs only in names that this exporter never has
_IN_WORDS_OF_TEXT = ("text/plain", "text/*", "*/*")  # the most specific first


@lru_cache(maxsize=64)
def accepted_form(accept: str) -> Form:
    """OpenMetrics for who names it and prefers nothing else, the classic text for everybody else.

    A client that takes neither gets text all the same, as Prometheus' own libraries do it: better than nothing.
    """
    openmetrics, text = 0.0, dict.fromkeys(_IN_WORDS_OF_TEXT, -1.0)
    for kind, parameters, quality in _entries(accept):
        version = parameters.get("version", "")
        if kind == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            openmetrics = max(openmetrics, quality)
        elif kind in text and (kind != "text/plain" or version in _TEXT_VERSIONS):
            text[kind] = max(text[kind], quality)
    most_specific = next((quality for quality in text.values() if quality >= 0), 0.0)
    return "openmetrics" if openmetrics and openmetrics >= most_specific else "text"


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip, and does not prefer plain bytes."""
    qualities = {coding: quality for coding, _, quality in _entries(accept_encoding)}
    others = qualities.get("*", 0.0)
    gzip = max((qualities[coding] for coding in ("gzip", "x-gzip") if coding in qualities), default=others)
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _entries(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Each entry's name, parameters and quality (0 to 1), names in lower case; what cannot be read counts as 0."""
    for entry in parse_http_list(header):
        message = Message()
        message["Content-Type"] = entry
        (name, _), *parameters = message.get_params([("", "")])
        values = {key.strip().lower(): value.strip() for key, value in parameters}
        yield name.strip().lower(), values, _quality(values.get("q", "1"))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
