"""`type: rest_api`: rows from JSON over HTTP, page by page."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

import jmespath
import polars as pl
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.collectors.base import Collection, Collector, within_max_rows
from exporter.collectors.http_auth import AuthConfig, HeaderName, variables
from exporter.collectors.http_json import NOT_MODIFIED, Answer, Call, HttpClient
from exporter.collectors.http_source import HttpSourceConfig
from exporter.collectors.json_rows import PathText, Pivot, Row, columns_of, values_at
from exporter.collectors.logins import login_of
from exporter.collectors.pagination import Page, Pagination, Turn, Walk
from exporter.collectors.request_values import (
    Accounts,
    TimeWindow,
    as_text,
    filled,
    needed,
    placeholders,
    put,
    times_of,
    written,
)
from exporter.collectors.row_steps import RowReader, RowStep
from exporter.errors import BadAnswer, BudgetExceeded, FieldMissing, SecretMissing, Unauthorized
from exporter.model import LATE, StrictModel

_OWN_HEADERS = {"authorization", "host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")
_TIMES = {"time_from", "time_to"}


def _as_texts(value: object) -> object:
    """Query parameters and headers are text; numbers and booleans may be written plainly."""
    if not isinstance(value, dict):
        return value
    return {key: as_text(item) if isinstance(item, bool | int | float) else item for key, item in value.items()}


def _free_headers(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if name.lower() == "authorization":
            raise ValueError("Authorization does not belong here: use auth")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"{name} is set by the exporter: remove it")
    return headers


def _is_json(body: object) -> object:
    if body is not None and not isinstance(body, dict | list):
        raise ValueError("must be a mapping or a list, as it is sent as JSON")
    try:
        json.dumps(body)
    except TypeError as error:
        raise ValueError(f"cannot be sent as JSON: {error}: put dates in quotes") from None
    return body


def _as_window(value: object) -> object:
    return value if isinstance(value, dict | TimeWindow | None) else {"length": value}


def _as_steps(value: object) -> object:
    return [{"path": value}] if isinstance(value, str) else value


class PivotConfig(StrictModel):
    """A list of name and value pairs in each row that becomes one column per name."""

    path: PathText = Field("metrics", description="The list in each row.")
    name: str = Field("metric_name", description="Key of the name.")
    value: str = Field("metric_value", description="Key of the value.")


class RestApiConfig(HttpSourceConfig):
    """A JSON endpoint whose rows become samples."""

    type: Literal["rest_api"] = Field(description="`rest_api`.")
    method: Literal["GET", "POST"] = Field("GET", description="A POST must only read, as it may be sent again.")
    auth: AuthConfig | None = Field(None, description="How the exporter logs in.")
    headers: Annotated[dict[HeaderName, str], LATE, BeforeValidator(_as_texts), AfterValidator(_free_headers)] = Field(
        default_factory=dict, description="Further headers."
    )
    params: Annotated[dict[str, str], LATE, BeforeValidator(_as_texts)] = Field(
        default_factory=dict,
        description="Query parameters; `{time_from}`, `{time_to}` and `{account_ids}` may stand in them.",
    )
    body: Annotated[Any, LATE, AfterValidator(_is_json)] = Field(
        None, description="Of a POST, sent as JSON; a text that is only a placeholder becomes a number or a list."
    )
    time_window: Annotated[TimeWindow | None, BeforeValidator(_as_window)] = Field(
        None, description="What `{time_from}` and `{time_to}` stand for: a duration, or keys."
    )
    accounts: Accounts = Field(default_factory=Accounts, description="Whose rows are served.")
    rows: Annotated[tuple[RowStep, ...], BeforeValidator(_as_steps), Field(min_length=1)] = Field(
        (RowStep(path="data"),), description="JMESPath to the list of rows (`@` if the answer is the list), or steps."
    )
    pivot: PivotConfig | None = Field(None, description="Name and value pairs that become columns.")
    pagination: Pagination | None = Field(None, description="Without it one page is read.")

    @property
    def placeholders(self) -> set[str]:
        return placeholders(self.params) | placeholders(self.body)

    @model_validator(mode="after")
    def _window_is_used(self) -> RestApiConfig:
        used = bool(self.placeholders & _TIMES)
        if used and self.time_window is None:
            raise ValueError("params or body use {time_from} or {time_to}: add time_window, such as 2m")
        if self.time_window is not None and not used:
            raise ValueError("time_window has no effect: use {time_from} and {time_to} in params or body, or remove it")
        return self

    @model_validator(mode="after")
    def _body_is_sent(self) -> RestApiConfig:
        if self.body is not None and self.method == "GET":
            raise ValueError("body has no effect with GET: set method: POST, or use params")
        into_body = getattr(self.pagination, "into", None) == "body"
        if into_body and (self.method == "GET" or isinstance(self.body, list)):
            raise ValueError("pagination into body needs method: POST and a body that is a mapping")
        return self

    def needs(self) -> tuple[str, ...]:
        templates = [self.headers, self.params, self.body]
        return (*super().needs(), *(name for part in templates for name in needed(part)), *variables(self.auth))


class RestApiCollector(Collector):
    """Reads all pages of an endpoint; connections are kept between collections."""

    def __init__(self, config: RestApiConfig) -> None:
        self._config = config
        self._client = HttpClient(config)
        self._login = login_of(config.auth, self._client)
        self._rows = RowReader(config.rows)
        pivot = config.pivot
        self._pivot = Pivot(jmespath.compile(pivot.path), pivot.name, pivot.value) if pivot else None

    def collect(self, collection: Collection) -> pl.DataFrame | None:
        config = self._config
        if not config.tls.verify:
            collection.warn("tls_unverified", 1, "tls.verify is false: anybody in between can read and change the data")
        try:
            rows = self._collected(collection)
            if rows is None:
                return None
            return columns_of(rows, config.columns, config.values, self._pivot, collection)
        except RecursionError:
            raise BadAnswer("the answer is nested too deeply to be read as rows") from None

    def cancel(self) -> None:
        self._client.cancel()

    def close(self) -> None:
        self._client.close()

    def _collected(self, collection: Collection) -> list[Row] | None:
        """The rows of all requests; None if the one request found what is served."""
        config = self._config
        calls = list(self._calls(collection))
        rows: list[Row] = []
        for call in calls:
            pages = self._pages(call, collection) if config.pagination else self._only_page(call, collection)
            for page in pages:
                if page is None:
                    return None
                rows += self._served(page)
                taken = within_max_rows(config, len(rows), collection)
                if taken < len(rows):
                    return rows[:taken]
        return rows

    def _calls(self, collection: Collection) -> Iterator[Call]:
        """The first request of each batch of accounts."""
        config, secrets = self._config, collection.secrets
        values: dict[str, object] = {}
        if config.time_window:
            times = times_of(config.time_window, collection.now, collection.last_success)
            values = {
                "time_from": written(times.since, config.time_window.format),
                "time_to": written(times.until, config.time_window.format),
            }
            detail = f"time_window: {times.cut:g} s before longest ({config.time_window.cap:g} s) were not asked for"
            collection.warn("window_cut", int(times.cut > 0), detail)
        headers = {name: _header(name, secrets.expand(text)) for name, text in config.headers.items()}
        url = secrets.expand(config.endpoint)
        asks_for = config.accounts.type == "whitelist" and "account_ids" in config.placeholders
        for batch in config.accounts.batches() if asks_for else (None,):
            given = values | {"account_ids": batch}
            params = filled(config.params, given, secrets.expand)
            body = filled(config.body, given, secrets.expand)
            yield Call(url, config.method, {name: as_text(item) for name, item in params.items()}, headers, body)

    def _pages(self, call: Call, collection: Collection) -> Iterator[list[Row]]:
        paging = self._config.pagination
        assert paging is not None
        turn, walk = paging.start(), Walk()
        for number in range(1, paging.max_pages + 1):
            walk.turn_to(turn)
            answer = self._ask(_turned(call, turn, getattr(paging, "into", "params")), collection)
            rows, items = self._rows.read(answer.data, self._config.max_rows + 1, collection)
            walk.answered(number, answer.digest, items)
            yield rows
            following = paging.after(turn, Page(answer.data, items, answer.url, answer.links))
            if following is None:
                return
            turn = following
        raise BudgetExceeded(
            f"there are more than max_pages ({paging.max_pages}) pages: raise it, or ask for larger pages"
        )

    def _only_page(self, call: Call, collection: Collection) -> Iterator[list[Row] | None]:
        """The rows of a single answer; None if it has not changed since it was served."""
        fixed = call.method == "GET" and not self._config.placeholders
        if fixed:
            call = replace(call, headers={**call.headers, **_conditions(call, collection.served)})
        answer = self._ask(call, collection)
        if answer.status == NOT_MODIFIED:
            if not any(name.startswith("If-") for name in call.headers):
                raise BadAnswer("the server answered 304 Not Modified, but was not asked whether anything has changed")
            yield None
            return
        if fixed:
            collection.version = _version(call, answer)
        rows, _ = self._rows.read(answer.data, self._config.max_rows + 1, collection)
        paging = answer.data.get("pagination") if isinstance(answer.data, dict) else None
        cut = isinstance(paging, dict) and paging.get("has_more") is True
        collection.warn("truncated", int(cut), "the answer has further pages: set `pagination` to read them")
        yield rows

    def _ask(self, call: Call, collection: Collection) -> Answer:
        """With credentials; with new ones where those that were kept from before are refused."""
        try:
            return self._client.json(call, self._login.credentials(collection), collection)
        except Unauthorized:
            if not self._login.renewed():
                raise
            return self._client.json(call, self._login.credentials(collection), collection)

    def _served(self, rows: list[Row]) -> list[Row]:
        """Without the rows of accounts that are not to be served."""
        accounts = self._config.accounts
        if accounts.type == "all" or not rows:
            return rows
        found = values_at(rows, accounts.field)
        if found is None:
            raise FieldMissing(accounts.field, rows[0])
        return [
            row
            for row, account in zip(rows, found, strict=True)
            if accounts.serves(None if account is None else as_text(account))
        ]


def _header(name: str, value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise SecretMissing(f"the header {name} has characters that no header has, such as a line end")
    return value


def _turned(call: Call, turn: Turn, into: str) -> Call:
    """The request for a page."""
    if turn.url is not None:
        return replace(call, url=turn.url, params={})
    if into == "body":
        body = call.json
        for path, value in turn.params.items():
            body = put(body, path, value)
        return replace(call, json=body)
    return replace(call, params={**call.params, **{name: str(value) for name, value in turn.params.items()}})


def _digest(call: Call) -> str:
    return hashlib.sha256(json.dumps([call.url, sorted(call.params.items())]).encode()).hexdigest()[:32]


def _version(call: Call, answer: Answer) -> str | None:
    """What tells this answer from a later one, as text; None where the server says nothing of it."""
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    return json.dumps([_digest(call), etag, modified]) if etag or modified else None


def _conditions(call: Call, served: object) -> Mapping[str, str]:
    """Headers that ask for the answer only if it is another one than is served, for the same request."""
    digest, etag, modified = None, None, None
    if isinstance(served, str):
        with suppress(ValueError):
            digest, etag, modified = json.loads(served)
    if digest != _digest(call):
        return {}
    conditions = {"If-None-Match": etag, "If-Modified-Since": modified}
    return {name: value for name, value in conditions.items() if value}
