"""`type: rest_api`: rows from JSON over HTTP GET, page by page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import jmespath
import polars as pl
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.collectors.base import Collection, Collector, SourceConfig, within_max_rows
from exporter.collectors.http_json import BearerAuth, JsonClient
from exporter.collectors.json_rows import Pivot, columns_of, rows_of, truth_at
from exporter.environment import references
from exporter.errors import BudgetExceeded
from exporter.model import LATE, Duration, SecretTemplate, StrictModel, Template

_MEBIBYTE = 1024 * 1024


def _expression(text: str) -> str:
    try:
        jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{text!r} is no JMESPath expression: {str(error).splitlines()[0]}") from None
    return text


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") and not url.startswith("${"):
        raise ValueError("is no web address: start it with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("has a user or password in it: remove them and use auth")
    return url


def _as_text(value: object) -> object:
    """Query parameters are text; numbers and booleans may be written plainly."""
    if not isinstance(value, dict):
        return value
    return {
        key: str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int | float) else item
        for key, item in value.items()
    }


Expression = Annotated[str, AfterValidator(_expression)]
Parameters = Annotated[dict[str, str], LATE, BeforeValidator(_as_text)]


class AuthConfig(StrictModel):
    """A token sent as `Authorization: Bearer …`."""

    type: Literal["bearer_token"]
    token: SecretTemplate = None
    token_env: str | None = None
    token_file: str | None = None

    @model_validator(mode="after")
    def _one_token(self) -> AuthConfig:
        if sum(value is not None for value in (self.token, self.token_env, self.token_file)) != 1:
            raise ValueError("needs exactly one of token_env, token_file and token")
        return self

    @property
    def origin(self) -> str:
        """Where the token comes from, for messages."""
        return self.token_env or self.token_file or "${…}"


class PivotConfig(StrictModel):
    """A list of name and value pairs in each row that becomes one column per name."""

    path: Expression = "metrics"
    name: str = "metric_name"
    value: str = "metric_value"


class PaginationConfig(StrictModel):
    """Pages by number, from `first` on, until the answer says that there are no more."""

    type: Literal["page"]
    page_param: str = "page"
    size_param: str = "page_size"
    size: Annotated[int, Field(ge=1)] = 100
    first: Annotated[int, Field(ge=0)] = 1
    max_pages: Annotated[int, Field(ge=1)] = 100
    has_more: Expression = "pagination.has_more"


class RestApiConfig(SourceConfig):
    """A JSON endpoint whose rows become samples."""

    type: Literal["rest_api"]
    endpoint: Annotated[Template, AfterValidator(_endpoint)]
    auth: AuthConfig | None = None
    params: Parameters = Field(default_factory=dict)
    time_window: Duration | None = None
    rows: Expression = "data"
    pivot: PivotConfig | None = None
    pagination: PaginationConfig | None = None
    max_response_bytes: Annotated[int, Field(ge=1)] = 64 * _MEBIBYTE

    @model_validator(mode="after")
    def _window_is_used(self) -> RestApiConfig:
        used = any("{time_from}" in text or "{time_to}" in text for text in self.params.values())
        if used and self.time_window is None:
            raise ValueError("params use {time_from} or {time_to}: add time_window, such as 2m")
        if self.time_window is not None and not used:
            raise ValueError("time_window has no effect: use {time_from} and {time_to} in params, or remove it")
        return self

    def needs(self) -> tuple[str, ...]:
        names = [*references(self.endpoint), *(name for text in self.params.values() for name in references(text))]
        if self.auth is not None:
            names += [*([self.auth.token_env] if self.auth.token_env else []), *references(self.auth.token or "")]
        return tuple(names)


class RestApiCollector(Collector):
    """Reads all pages of an endpoint; connections are kept between collections."""

    def __init__(self, config: RestApiConfig) -> None:
        self._config = config
        self._client = JsonClient(max_bytes=config.max_response_bytes)
        self._rows = jmespath.compile(config.rows)
        pivot = config.pivot
        self._pivot = Pivot(jmespath.compile(pivot.path), pivot.name, pivot.value) if pivot else None

    def collect(self, collection: Collection) -> pl.DataFrame:
        config = self._config
        url = collection.secrets.expand(config.endpoint)
        auth = self._auth(collection)
        params = request_parameters(config.params, config.time_window, collection)
        rows: list[dict[str, Any]] = []
        for page in self._pages():
            answer = self._client.get(url, params | page, auth, collection)
            rows += rows_of(answer, self._rows)
            taken = within_max_rows(config, len(rows), collection)
            if taken < len(rows) or not self._more(answer, collection):
                rows = rows[:taken]
                return columns_of(rows, config.columns, config.values, self._pivot, collection)
        pages = config.pagination.max_pages if config.pagination else 1
        raise BudgetExceeded(f"there are more than max_pages ({pages}) pages: raise it, or ask for larger pages")

    def cancel(self) -> None:
        self._client.cancel()

    def _pages(self) -> list[dict[str, str]]:
        """Parameters of each page that may be asked for."""
        paging = self._config.pagination
        if paging is None:
            return [{}]
        numbers = range(paging.first, paging.first + paging.max_pages)
        return [{paging.page_param: str(number), paging.size_param: str(paging.size)} for number in numbers]

    def _more(self, answer: object, collection: Collection) -> bool:
        paging = self._config.pagination
        if paging is not None:
            return truth_at(answer, paging.has_more)
        if isinstance(answer, dict) and isinstance(answer.get("pagination"), dict):
            cut = answer["pagination"].get("has_more") is True
            collection.warn("truncated", int(cut), "the answer has further pages: set `pagination` to read them")
        return False

    def _auth(self, collection: Collection) -> BearerAuth | None:
        auth = self._config.auth
        if auth is None:
            return None
        token = collection.secrets.secret(env=auth.token_env, file=auth.token_file, template=auth.token)
        return BearerAuth(token or "", auth.origin)


def request_parameters(params: dict[str, str], window: float | None, collection: Collection) -> dict[str, str]:
    """Query parameters with `{time_from}` and `{time_to}` as RFC 3339 times in UTC, whole seconds, `window` apart."""
    until = collection.now.replace(microsecond=0)
    since = until - timedelta(seconds=window or 0)
    times = {"{time_from}": _rfc3339(since), "{time_to}": _rfc3339(until)}
    ready = {}
    for name, template in params.items():
        text = collection.secrets.expand(template)
        for placeholder, time in times.items():
            text = text.replace(placeholder, time)
        ready[name] = text
    return ready


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
