"""`type: bigquery`: one query over BigQuery tables, whose cost is known and bounded before it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

import polars as pl
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, StringConstraints, model_validator

from exporter.collectors.base import Collection, Collector, SourceConfig
from exporter.environment import references
from exporter.errors import BadAnswer
from exporter.model import LATE, Duration, StrictModel, Template

ParameterType = Literal["string", "int", "float", "bool", "date", "timestamp"]
ParameterValue = str | int | float | date | datetime

_DEFAULT_MAX_BYTES = ByteSize(10 * 1024**3)
_LEAST_BILLED = 10 * 1024**2
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FROM, _TO = "{time_from}", "{time_to}"
_INT64 = range(-(2**63), 2**63)


def _as_text(value: object) -> object:
    """Parameters are text until their type is known; numbers, booleans and dates may be written plainly."""
    if isinstance(value, list):
        return tuple(map(_plain_text, value))
    return _plain_text(value)


def _plain_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if not isinstance(value, str | int | float):
        raise ValueError("must be a value, or a list of values")  # noqa: TRY004 - pydantic reports ValueErrors
    return str(value)


def _int(text: str) -> int:
    number = int(text)
    if number not in _INT64:
        raise ValueError("out of range")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _timestamp(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


def _date(text: str) -> date:
    return _timestamp(text).date()


_READ: Mapping[str, tuple[Callable[[str], ParameterValue], str]] = {
    "string": (str, "text"),
    "int": (_int, "a whole number of 64 bits"),
    "float": (_float, "a number"),
    "bool": (_bool, "true or false"),
    "date": (_date, "a date such as 2026-01-31"),
    "timestamp": (_timestamp, "a time such as 2026-01-31T08:00:00Z"),
}


def parameter_value(kind: ParameterType, text: str) -> ParameterValue:
    """`text` as a value of the type, ValueError when it is none. Times are aware, in UTC if they name no zone."""
    read, expected = _READ[kind]
    try:
        return read(text.strip() if kind != "string" else text)
    except (ValueError, KeyError, OverflowError):
        raise ValueError(f"is no {kind}: write {expected}") from None


def _endpoint(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("is no web address: write https://host or http://host:port, without user and password")
    return url.rstrip("/")


def _max_bytes(size: ByteSize | None) -> ByteSize | None:
    if size is not None and size < _LEAST_BILLED:
        raise ValueError("is less than the 10 MiB that BigQuery bills at least for a table: use 10MiB or more")
    return size


class ParameterConfig(StrictModel):
    """A named query parameter. A list makes it an array."""

    type: ParameterType = Field(description="What it is in the query.")
    value: Annotated[str | tuple[str, ...], LATE, BeforeValidator(_as_text)] = Field(
        description="Text, `${VARIABLE}`, `{time_from}` or `{time_to}`; times without a zone are UTC."
    )

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.value,) if isinstance(self.value, str) else self.value

    @property
    def uses_window(self) -> bool:
        return any(_FROM in text or _TO in text for text in self.texts)

    @model_validator(mode="after")
    def _fits(self) -> ParameterConfig:
        for text in self.texts:
            if not list(references(text)) and "${" not in text and not self.uses_window:
                parameter_value(self.type, text)
        return self

    def read(
        self, name: str, window: Mapping[str, str], collection: Collection
    ) -> ParameterValue | list[ParameterValue]:
        """The value to send; `window` maps placeholders to text. BadAnswer when a variable's text does not fit."""
        found = []
        for template in self.texts:
            text = collection.secrets.expand(template)
            for placeholder, time in window.items():
                text = text.replace(placeholder, time)
            try:
                found.append(parameter_value(self.type, text))
            except ValueError as error:
                raise BadAnswer(f"parameter {name} {error}") from None
        return found[0] if isinstance(self.value, str) else found


ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
JobLabelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=63)]
JobLabelValue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]*$", max_length=63)]


class BigQueryConfig(SourceConfig):
    """A query over BigQuery tables, billed to `project`. `max_bytes` is what one run may read at most."""

    type: Literal["bigquery"] = Field(description="`bigquery`.")
    project: Annotated[str, Field(min_length=1)] = Field(description="Project that runs the query and pays for it.")
    query: Annotated[Template, Field(min_length=1)] = Field(
        description="One SELECT (`WITH` included) in GoogleSQL; `${VARIABLE}` is read at every run."
    )
    parameters: dict[ParameterName, ParameterConfig] = Field(
        default_factory=dict, description="By name, as `@name` in the query."
    )
    time_window: Duration | None = Field(
        None, description="How long before the run `{time_from}` is; `{time_to}` is when it began."
    )
    location: str | None = Field(
        None, description="Where the tables are, such as `EU`; name it when BigQuery cannot tell."
    )
    max_bytes: Annotated[ByteSize | None, AfterValidator(_max_bytes)] = Field(
        _DEFAULT_MAX_BYTES, description="Most that one run may read, such as `500MiB`; `null` for no limit."
    )
    priority: Literal["interactive", "batch"] = Field(
        "interactive", description="`batch` waits for free slots, which can take longer than `timeout`."
    )
    job_labels: dict[JobLabelName, JobLabelValue] = Field(
        default_factory=dict, description="Labels of the query's job, for your bill."
    )
    storage_api: bool = Field(
        False, description="Download over the Storage Read API: faster for many rows, billed separately."
    )
    credentials: Literal["default", "none"] = Field(
        "default", description="`default`: those of the machine; `none`: for an emulator."
    )
    credentials_file: str | None = Field(None, description="Key file of a service account, read at every run.")
    credentials_env: str | None = Field(None, description="Variable that holds the key's JSON.")
    endpoint: Annotated[str | None, AfterValidator(_endpoint)] = Field(
        None, description="Another address than Google's, such as an emulator's."
    )

    @model_validator(mode="after")
    def _parameters_are_used(self) -> BigQueryConfig:
        unused = [n for n in self.parameters if not re.search(rf"@{n}\b", self.query, re.IGNORECASE)]
        if unused:
            raise ValueError(f"parameter {', '.join(unused)} has no effect: write @{unused[0]} in query, or remove it")
        used = any(parameter.uses_window for parameter in self.parameters.values())
        if used and self.time_window is None:
            raise ValueError("parameters use {time_from} or {time_to}: add time_window, such as 1h")
        if self.time_window is not None and not used:
            raise ValueError("time_window has no effect: use {time_from} and {time_to} in parameters, or remove it")
        return self

    @model_validator(mode="after")
    def _one_identity(self) -> BigQueryConfig:
        given = [key for key in ("credentials_file", "credentials_env") if getattr(self, key) is not None]
        if self.credentials == "none":
            given.append("credentials: none")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other: keep one")
        if self.credentials == "none" and self.endpoint is None:
            raise ValueError(
                "credentials: none needs endpoint: Google's own BigQuery answers nobody without credentials"
            )
        if self.storage_api and self.endpoint is not None:
            raise ValueError("storage_api is another service than endpoint: remove one of them")
        parts = urlsplit(self.endpoint or "")
        if self.credentials != "none" and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("endpoint would be sent the credentials in plain text: use https://, or credentials: none")
        return self

    def needs(self) -> tuple[str, ...]:
        texts = (text for parameter in self.parameters.values() for text in parameter.texts)
        names = [*references(self.query), *(name for text in texts for name in references(text))]
        return (*([self.credentials_env] if self.credentials_env else []), *names)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query, and its parameters by name: each its type in the configuration, and its value or list of values."""

    query: str
    parameters: Mapping[str, tuple[str, ParameterValue | list[ParameterValue]]]


def window_of(now: datetime, seconds: float | None) -> Mapping[str, str]:
    """Text of each placeholder: RFC 3339 times in UTC, whole seconds, `seconds` apart."""
    if seconds is None:
        return {}
    until = now.astimezone(UTC).replace(microsecond=0)
    return {
        placeholder: time.strftime("%Y-%m-%dT%H:%M:%SZ")
        for placeholder, time in ((_FROM, until - timedelta(seconds=seconds)), (_TO, until))
    }


class BigQueryCollector(Collector):
    """A dry run, the query, its rows. The client is kept while the credentials stay the same."""

    def __init__(self, config: BigQueryConfig) -> None:
        from exporter.collectors.bigquery_session import BigQuerySession  # noqa: PLC0415 - heavy libraries

        self._config = config
        self._session = BigQuerySession(config)

    def collect(self, collection: Collection) -> pl.DataFrame:
        config = self._config
        window = window_of(collection.now, config.time_window)
        parameters = {
            name: (parameter.type, parameter.read(name, window, collection))
            for name, parameter in config.parameters.items()
        }
        statement = Statement(collection.secrets.expand(config.query), parameters)
        return self._session.collect(statement, collection)

    def cancel(self) -> None:
        self._session.cancel()

    def close(self) -> None:
        self._session.close()
