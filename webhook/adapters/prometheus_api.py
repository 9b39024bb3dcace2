"""Prometheus' HTTP API as analysts need it: range queries in any size, the rules it runs, reloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

MOST_POINTS = 11_000
"""Of a series in one answer; Prometheus refuses more."""

_TOO_MUCH = ("too many samples", "exceeded maximum resolution", "timed out", "timeout", "context deadline exceeded")

Points = list[tuple[int, float]]
"""Times in milliseconds, and values."""


class PrometheusError(Exception):
    """What Prometheus said, or that it said nothing.

    PrometheusError
    ├── PrometheusAwayError  cannot be reached, or is not ready: trying again can help
    ├── TooMuchError         too many samples, points or seconds: a shorter period can help
    └── NotAllowedError      that part of the API is switched off
    """


class PrometheusAwayError(PrometheusError):
    pass


class TooMuchError(PrometheusError):
    pass


class NotAllowedError(PrometheusError):
    pass


@dataclass(frozen=True, slots=True)
class RunningRule:
    """A rule as Prometheus has it: `query` in its own spelling, seconds, `health` ok, err or unknown."""

    name: str
    kind: str
    query: str
    duration: float
    keep: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    health: str
    error: str


@dataclass(frozen=True, slots=True)
class RunningGroup:
    """`evaluated` is when its last evaluation began, None before the first; seconds; a `limit` of 0 is none."""

    name: str
    file: str
    interval: float
    limit: int
    evaluated: datetime | None
    rules: Sequence[RunningRule]


class PrometheusApi:
    def __init__(self, base_url: str, *, timeout: float = 130.0) -> None:
        self.url = base_url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()

    def range(self, query: str, start: int, end: int, step: int) -> list[tuple[dict[str, str], Points]]:
        """Series of a query at `start`, `start + step`, … in milliseconds; raise PrometheusError."""
        times = {"start": f"{start / 1000:.3f}", "end": f"{end / 1000:.3f}", "step": f"{step / 1000:.3f}"}
        data = self._ask("POST", "/api/v1/query_range", query=query, **times)
        return [
            (dict(series["metric"]), [(round(float(time) * 1000), float(value)) for time, value in series["values"]])
            for series in data["result"]
        ]

    def samples(self, query: str, at: int) -> list[tuple[dict[str, str], Points]]:
        """Series of a query at one time; of a selector with a range, all samples in it."""
        data = self._ask("POST", "/api/v1/query", query=query, time=f"{at / 1000:.3f}")
        return [
            (
                dict(each["metric"]),
                [(round(float(t) * 1000), float(v)) for t, v in each.get("values", [each.get("value")])],
            )
            for each in data["result"]
        ]

    def now(self) -> datetime:
        """By its own clock, to the millisecond."""
        return datetime.fromtimestamp(float(self._ask("POST", "/api/v1/query", query="time()")["result"][1]), UTC)

    def groups(self) -> list[RunningGroup]:
        return [_group(each) for each in self._ask("GET", "/api/v1/rules")["groups"]]

    def metric_types(self) -> dict[str, str]:
        """Families that its targets serve now, and recorded or stored names, which have no type."""
        names = dict.fromkeys(self._ask("GET", "/api/v1/label/__name__/values"), "unknown")
        families = self._ask("GET", "/api/v1/metadata")
        return names | {name: told[0]["type"] for name, told in families.items() if told}

    def flags(self) -> dict[str, str]:
        return dict(self._ask("GET", "/api/v1/status/flags"))

    def config(self) -> str:
        """Its configuration file as it was last loaded, YAML."""
        return str(self._ask("GET", "/api/v1/status/config")["yaml"])

    def loaded(self) -> tuple[bool, datetime]:
        """Whether its last reload went well, and when one last did."""
        told = self._ask("GET", "/api/v1/status/runtimeinfo")
        return bool(told["reloadConfigSuccess"]), datetime.fromisoformat(told["lastConfigTime"])

    def reload(self) -> None:
        """Raise NotAllowedError without `--web.enable-lifecycle`, PrometheusError where it refuses what it has read."""
        answer = self._send("POST", "/-/reload")
        if answer.status_code in (403, 404, 405):
            raise NotAllowedError(f"{self.url} does not reload: start Prometheus with --web.enable-lifecycle")
        if not answer.ok:
            raise PrometheusError(f"{self.url} refuses to reload: {answer.text.strip()[:2000]}")

    def close(self) -> None:
        self._session.close()

    def _ask(self, method: str, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        answer = self._send(method, path, **parameters)
        try:
            body = answer.json()
            if body["status"] == "success":
                return body["data"]
            kind, text = str(body.get("errorType")), str(body.get("error"))
        except (ValueError, KeyError, TypeError):
            raise PrometheusAwayError(
                f"{self.url} answers {answer.status_code} to {path}: is it a Prometheus?"
            ) from None
        if kind == "timeout" or any(each in text for each in _TOO_MUCH):
            raise TooMuchError(text)
        raise PrometheusError(text)

    def _send(self, method: str, path: str, **parameters: str) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self.url}{path}", data=parameters, timeout=self._timeout)
        except requests.Timeout:
            raise TooMuchError(f"{self.url} did not answer within {self._timeout:.0f} s") from None
        except requests.RequestException as error:
            raise PrometheusAwayError(f"{self.url} cannot be reached: {type(error).__name__}") from None
        if answer.status_code in (401, 403) and path != "/-/reload":
            raise NotAllowedError(f"{self.url} answers {answer.status_code}: who may ask it?")
        return answer


def chunks(start: int, end: int, step: int, most: int) -> Iterator[tuple[int, int]]:
    """From when to when to ask, so that each answer has at most so many points; none is asked twice."""
    while start <= end:
        last = min(start + (most - 1) * step, start + (end - start) // step * step)
        yield start, last
        start = last + step


def _group(told: Mapping[str, Any]) -> RunningGroup:
    evaluated = datetime.fromisoformat(told["lastEvaluation"])
    rules = [_rule(each) for each in told["rules"]]
    file, interval = str(told["file"]), float(told["interval"])
    limit = int(told.get("limit") or 0)
    return RunningGroup(str(told["name"]), file, interval, limit, evaluated if evaluated.year > 1 else None, rules)


def _rule(told: Mapping[str, Any]) -> RunningRule:
    return RunningRule(
        str(told["name"]),
        "alert" if told["type"] == "alerting" else "record",
        str(told["query"]),
        float(told.get("duration", 0)),
        float(told.get("keepFiringFor", 0)),
        dict(told.get("labels") or {}),
        dict(told.get("annotations") or {}),
        str(told["health"]),
        str(told.get("lastError") or ""),
    )
