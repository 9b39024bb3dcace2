"""`type: splunk`: the results of a search, exported over Splunk's REST interface while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import polars as pl
import requests
from pydantic import Field, StringConstraints

from exporter.collectors.base import Collection, Collector, within_max_rows
from exporter.collectors.http_auth import SplunkAuthConfig, variables
from exporter.collectors.http_errors import place
from exporter.collectors.http_json import Call, HttpClient, Reading
from exporter.collectors.http_source import HttpSourceConfig
from exporter.collectors.json_rows import Row, columns_of
from exporter.collectors.logins import login_of
from exporter.environment import references
from exporter.errors import BadAnswer, QueryRefused, Unreachable
from exporter.model import Template

_SPARE = 5.0  # seconds after the timeout in which Splunk itself ends a search that nobody waits for any more
_LONGEST_WORDS = 300
_FAILURES = ("FATAL", "ERROR")
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


class SplunkConfig(HttpSourceConfig):
    """A search whose results become samples. `endpoint` is the management port, such as https://splunk:8089."""

    type: Literal["splunk"] = Field(description="`splunk`.")
    auth: SplunkAuthConfig = Field(description="How the exporter logs in.")
    search: Annotated[Template, Field(min_length=1)] = Field(
        description="SPL; `search` is put before it unless it begins with that or a pipe."
    )
    earliest: str = Field("-5m@m", description="Begin of the time range, as Splunk writes it.")
    latest: str = Field("@m", description="Its end.")
    app: Name | None = Field(None, description="App in whose context the search runs.")
    owner: Name = Field("nobody", description="User in whose context it runs, if there is an `app`.")

    @property
    def path(self) -> str:
        """Where a search is exported from, in the namespace of an app if there is one."""
        namespace = f"servicesNS/{self.owner}/{self.app}" if self.app else "services"
        return f"/{namespace}/search/v2/jobs/export"

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), *references(self.search), *variables(self.auth))


class SplunkCollector(Collector):
    """Runs the search once for each collection."""

    def __init__(self, config: SplunkConfig) -> None:
        self._config = config
        self._client = HttpClient(config)
        self._login = login_of(config.auth, self._client)

    def collect(self, collection: Collection) -> pl.DataFrame:
        config = self._config
        if not config.tls.verify:
            collection.warn("tls_unverified", 1, "tls.verify is false: anybody in between can read and change the data")
        form = {
            "search": search_text(collection.secrets.expand(config.search)),
            "earliest_time": config.earliest,
            "latest_time": config.latest,
            "output_mode": "json",
            "preview": "false",
            "max_time": str(math.ceil(config.run_timeout + _SPARE)),
        }
        url = collection.secrets.expand(config.endpoint).rstrip("/") + config.path
        credentials = self._login.credentials(collection)
        reading = Reading(self._results, words_of, QueryRefused)
        rows = self._client.ask(Call(url, "POST", form=form), credentials, collection, reading)
        return columns_of(rows, config.columns, config.values, None, collection)

    def cancel(self) -> None:
        """Hang up. A search that goes on without us is ended by Splunk itself at its `max_time`."""
        self._client.cancel()

    def close(self) -> None:
        self._client.close()

    def _results(self, response: requests.Response, collection: Collection) -> list[Row]:
        """The final results; those of a search that is still running, and what they were replaced by, are not."""
        where, ended = place(response.url), False
        rows: list[Row] = []
        notes: list[str] = []
        for line in self._lines(response, collection):
            document = _document(line, where)
            failures, told = _messages(document)
            if failures:
                raise QueryRefused(f"{where}: the search failed: {collection.secrets.redact('; '.join(failures))}")
            notes += told
            if document.get("preview") is True:
                continue
            ended = ended or document.get("lastrow") is True
            result = document.get("result")
            if isinstance(result, dict):
                rows.append(result)
                taken = within_max_rows(self._config, len(rows), collection)
                if taken < len(rows):
                    return rows[:taken]
        if not ended:
            raise Unreachable(
                f"{where}: the results broke off after {len(rows)} rows, before the one marked as the last"
            )
        collection.warn("splunk_warning", len(notes), notes[0][:_LONGEST_WORDS] if notes else "")
        return rows

    def _lines(self, response: requests.Response, collection: Collection) -> Iterator[bytes]:
        """The lines that are not empty."""
        rest = b""
        for chunk in self._client.chunks(response, collection):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from filter(bytes.strip, whole)
        if rest.strip():
            yield rest


def search_text(text: str) -> str:
    """A search as Splunk's REST interface wants it: with a command at its start."""
    text = text.strip()
    return text if text.startswith("|") or text.partition(" ")[0].lower() == "search" else f"search {text}"


def words_of(body: bytes) -> str:
    """What an error answer says: the texts of its `messages`."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    failures, told = _messages(document) if isinstance(document, dict) else ([], [])
    return "; ".join(failures or told)[:_LONGEST_WORDS]


def _document(line: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadAnswer(f"{where} sent a line that is no JSON object: is the endpoint Splunk's management port?")
    return document


def _messages(document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Texts of the messages that a search fails with, and of its warnings."""
    failures, told = [], []
    for message in document.get("messages") or ():
        kind, text = (
            (str(message.get("type", "")).upper(), str(message.get("text", "")))
            if isinstance(message, dict)
            else ("", "")
        )
        if kind in _FAILURES:
            failures.append(" ".join(text.split())[:_LONGEST_WORDS])
        elif kind.startswith("WARN"):
            told.append(" ".join(text.split()))
    return failures, told
