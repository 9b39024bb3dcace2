"""What is put into a request: times, accounts, and the templates that they are filled into. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from exporter.environment import references
from exporter.model import Duration, StrictModel

_PLACEHOLDER = re.compile(r"\{(time_from|time_to|account_ids)\}")
_LONGEST_WINDOW = 3600.0
OMITTED: Final = object()
"""Stands for a value that a request goes without."""


def _as_id(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and (not value or "," in value):
        raise ValueError("is no account: it is empty or has a comma in it")
    return value


AccountId = Annotated[str, BeforeValidator(_as_id)]


class TimeWindow(StrictModel):
    """From when to when data is asked for; in seconds before the collection."""

    length: Duration = Field(description="How long the window is.")
    start: Literal["fixed", "last_run"] = Field(
        "fixed", description="`last_run`: where the window of the data that is served ended."
    )
    longest: Duration | None = Field(None, description="The most after an outage; 1h by default.")
    lag: Duration | None = Field(None, description="How late data may arrive.")
    format: Literal["rfc3339", "unix", "unix_ms"] = Field("rfc3339", description="How times are written.")

    @model_validator(mode="after")
    def _agrees(self) -> TimeWindow:
        if self.longest is not None and self.start != "last_run":
            raise ValueError("longest has no effect on a fixed window: set start: last_run, or remove it")
        if self.longest is not None and self.longest < self.length:
            raise ValueError("longest is shorter than length: make it at least as long")
        return self

    @property
    def cap(self) -> float:
        return self.longest or max(self.length, _LONGEST_WINDOW)


class Accounts(StrictModel):
    """Whose data is asked for and served; `field` is the column that has the account of a row."""

    type: Literal["all", "whitelist", "blacklist"] = Field("all", description="Which are served.")
    whitelist: tuple[AccountId, ...] = Field((), description="Those that are; they stand for `{account_ids}`.")
    blacklist: tuple[AccountId, ...] = Field((), description="Those that are not.")
    field: str = Field("account_id", description="Column that has the account of a row.")
    batch: Annotated[int, Field(ge=1)] = Field(100, description="Accounts asked for in one request.")

    @model_validator(mode="after")
    def _has_its_list(self) -> Accounts:
        if self.type != "all" and not getattr(self, self.type):
            raise ValueError(f"type is {self.type}, but {self.type} is empty: list at least one account")
        return self

    def batches(self) -> Iterator[tuple[str, ...]]:
        """The accounts of each request, in the order of the list, each once."""
        names = iter(dict.fromkeys(self.whitelist))
        while batch := tuple(islice(names, self.batch)):
            yield batch

    def serves(self, account: str | None) -> bool:
        """Whether rows of the account are served; those of nobody are, unless there is a whitelist."""
        if self.type == "whitelist":
            return account in self.whitelist
        return self.type == "all" or account not in self.blacklist


@dataclass(frozen=True, slots=True)
class Times:
    """A window's two ends. `cut` is how many seconds it would have been longer without its cap."""

    since: datetime
    until: datetime
    cut: float = 0.0


def times_of(window: TimeWindow, now: datetime, last_success: datetime | None) -> Times:
    """Whole seconds. From the last run that is served, one window begins where the last one ended."""
    lag = timedelta(seconds=window.lag or 0)
    until = (now - lag).replace(microsecond=0)
    since = until - timedelta(seconds=window.length)
    if window.start == "fixed" or last_success is None:
        return Times(since, until)
    last = (last_success - lag).replace(microsecond=0)
    if last >= until:  # the clock was put back
        return Times(since, until)
    earliest = until - timedelta(seconds=window.cap)
    return Times(max(last, earliest), until, max(0.0, (earliest - last).total_seconds()))


def written(time: datetime, style: str) -> str | int:
    """A time as RFC 3339 in UTC, or as seconds or milliseconds since 1970."""
    match style:
        case "unix":
            return int(time.timestamp())
        case "unix_ms":
            return int(time.timestamp()) * 1000
        case _:
            return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def filled(template: Any, values: Mapping[str, object], expand: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    """A template of JSON with its references and placeholders replaced, in texts at any depth.

    A text that is nothing but a placeholder becomes its value, number and list included; inside longer text a list
    is joined by commas. What a placeholder without a value stands in is left out: OMITTED.
    """
    match template:
        case str():
            return _text(template, values, expand)
        case dict():
            items = {key: filled(item, values, expand) for key, item in template.items()}
            return {key: item for key, item in items.items() if item is not OMITTED}
        case list():
            return [item for item in (filled(part, values, expand) for part in template) if item is not OMITTED]
        case _:
            return template


def as_text(value: object) -> str:
    """A value as it stands in a query parameter or inside text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def placeholders(template: object) -> set[str]:
    """Names of the placeholders in a template, at any depth."""
    return {name for text in texts(template) for name in _PLACEHOLDER.findall(text)}


def needed(template: object) -> Iterator[str]:
    """Names of the environment variables that a template needs."""
    return (name for text in texts(template) for name in references(text))


def texts(template: object) -> Iterable[str]:
    """Every text in JSON, keys not included."""
    match template:
        case str():
            yield template
        case dict():
            for item in template.values():
                yield from texts(item)
        case list() | tuple():
            for item in template:
                yield from texts(item)


def put(body: Any, path: str, value: object) -> Any:  # noqa: ANN401 - JSON
    """A copy of a JSON object with a value at a dotted path; objects on the way are made."""
    key, _, rest = path.partition(".")
    inner = dict(body) if isinstance(body, dict) else {}
    inner[key] = put(inner.get(key), rest, value) if rest else value
    return inner


def _text(template: str, values: Mapping[str, object], expand: Callable[[str], str]) -> object:
    text = expand(template)
    names: Sequence[str] = _PLACEHOLDER.findall(template)
    if not names:
        return text
    if any(values.get(name) is None for name in names):
        return OMITTED
    whole = _PLACEHOLDER.fullmatch(text)
    if whole:
        value = values[whole[1]]
        return list(value) if isinstance(value, tuple) else value
    return _PLACEHOLDER.sub(lambda match: as_text(values[match[1]]), text)
