"""JSON log lines on standard error: `timestamp`, `level`, `service`, `event`, `message`, `trace_id`, `metadata`."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial

import structlog

MASK = "***"
SHORTEST_SECRET = 6
"""Anything shorter is part of too many words."""
_SECRETS = re.compile(
    r"""
    (?P<key>\bsk_[a-z0-9]{8})_[A-Za-z0-9_-]{43}         # API keys: the prefix may be seen
    | (?P<bearer>\bbearer\s+)[^\s"',]+
    | (?P<hook>https?://hooks\.slack\.com/)[^\s"']+
    | (?P<user>[a-z+]+://[^\s:/@]*:)[^\s@/]+(?=@)      # the password of a URL
    | (?P<query>[?&](?:token|key|code|secret|signature)=)[^\s&"']+
    | (?<![\w.+-])\+[1-9](?:[\s().-]?\d){6,14}\b        # phone numbers, E.164 and as people write them
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NAMED = re.compile(r"(?i)(?:^|_)(?:token|secret|password|authorization|api_key|phone|phone_numbers|webhook_url)$")


class Masked:
    """Takes secrets out of what is logged: known values, whatever looks like one, and fields that are named so."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {name: self.value(name, value) for name, value in event.items()}

    def value(self, name: str, value: object) -> object:
        if isinstance(value, Mapping):
            return {inner: self.value(str(inner), part) for inner, part in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(name, part) for part in value]
        if value is None or isinstance(value, bool):
            return value
        if _is_secret(name):
            return MASK
        return value if isinstance(value, int | float) else self.text(str(value))

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _SECRETS.sub(_masked, text)


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return _NAMED.search(name) is not None


def _masked(found: re.Match[str]) -> str:
    """What tells which secret it was stays: a key's prefix, the host of a hook."""
    kept = found.lastgroup and found[found.lastgroup]
    return f"{kept}_{MASK}" if found.lastgroup == "key" else f"{kept or ''}{MASK}"


def configure_logging(service: str, level: str = "INFO", secrets: Iterable[str] = ()) -> None:
    """`level` is the least that is written: DEBUG, INFO, WARNING or ERROR; `secrets` never are.

    Lines of libraries come out the same way, from WARNING on.
    """
    least = logging.getLevelNamesMapping()[level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    written: list[structlog.typing.Processor] = [
        partial(_as_documented, service),
        Masked(secrets),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *written],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_of_library, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(True)


def _of_library(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Its sentence is a message; what happened has no name of ours."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library_message", "message": event["event"], "logger": record.name}


_FIRST = ("trace_id", "merchant_id", "alert_id", "event", "message")


def _as_documented(
    service: str, _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The owner's format: what every line may have, then `metadata` with the rest."""
    rest = dict(event)
    rest.setdefault("message", str(rest["event"]).replace("_", " ").capitalize())
    line = {"timestamp": rest.pop("timestamp"), "level": str(rest.pop("level")).upper(), "service": service}
    line |= {name: rest.pop(name) for name in _FIRST if name in rest}
    return {**line, "metadata": rest}
