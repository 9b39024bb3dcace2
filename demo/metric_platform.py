"""The metric platform's REST API over the payments store: GET /api/v1/metrics/aggregated."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from demo.errors import DemoError
from demo.metrics import FAMILIES, window_metrics
from demo.payments import PaymentsStore, load_settings

PATH = "/api/v1/metrics/aggregated"
MAX_PAGE_SIZE = 1000
_DEFAULT_PAGE_SIZE = 100
_AGGREGATIONS = ("avg", "sum")


@dataclass(frozen=True)
class MetricQuery:
    """One request. Times are epoch seconds; None stands for every account or every metric that fits."""

    since: float
    until: float
    account_ids: frozenset[str] | None
    metrics: tuple[str, ...]
    page: int
    page_size: int


def parse_query(arguments: Mapping[str, str], now: float, window: float) -> MetricQuery:
    """Raises DemoError with one plain sentence about the first parameter that is wrong.

    Without `time_to` the window ends now; without `time_from` it is `window` seconds long.
    """
    until = _time(arguments, "time_to", now)
    since = _time(arguments, "time_from", until - window)
    if since >= until:
        raise DemoError("time_from must be before time_to")
    accounts = _list(arguments, "account_ids")
    return MetricQuery(
        since=since,
        until=until,
        account_ids=frozenset(accounts) if accounts else None,
        metrics=_metrics(_list(arguments, "metric_names"), arguments.get("aggregation")),
        page=_integer(arguments, "page", 1, None),
        page_size=_integer(arguments, "page_size", _DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
    )


def answer(rows: list[dict[str, Any]], query: MetricQuery) -> dict[str, Any]:
    """The documented JSON. `rows` as of `window_metrics`; a metric that the data do not allow is left out."""
    wanted = [row for row in rows if query.account_ids is None or row["account_id"] in query.account_ids]
    start = (query.page - 1) * query.page_size
    page = wanted[start : start + query.page_size]
    window = {"from": _iso(query.since), "to": _iso(query.until)}
    return {
        "data": [_entry(row, query, window) for row in page],
        "pagination": {
            "total": len(wanted),
            "page": query.page,
            "page_size": query.page_size,
            "has_more": start + len(page) < len(wanted),
        },
    }


def create_app(store: PaymentsStore, token: str, clock: Callable[[], float]) -> Flask:
    """`token` is what callers present as `Authorization: Bearer`; `clock` gives epoch seconds."""
    app = Flask("metric-platform", static_folder=None)

    @app.get("/-/healthy")
    def healthy() -> str:
        return "ok\n"

    @app.get(PATH)
    def aggregated() -> tuple[Response, int] | Response:
        if not _authorised(request.headers.get("Authorization", ""), token):
            refusal = _error(401, "unauthorized", "a valid bearer token is needed")
            refusal[0].headers["WWW-Authenticate"] = "Bearer"
            return refusal
        with store.read() as connection:
            try:
                window = float(load_settings(connection)["rate_window"])
                query = parse_query(request.args, clock(), window)
            except DemoError as error:
                return _error(400, "bad_request", str(error))
            rows = window_metrics(connection, query.since, query.until)
        return jsonify(answer(rows, query))

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Response, int]:
        return _error(error.code or 500, error.name.lower().replace(" ", "_"), error.description or error.name)

    return app


def _authorised(header: str, token: str) -> bool:
    scheme, _, presented = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(presented.strip().encode(), token.encode())


def _error(status: int, code: str, message: str) -> tuple[Response, int]:
    return jsonify({"error": {"code": code, "message": message}}), status


def _entry(row: dict[str, Any], query: MetricQuery, window: dict[str, str]) -> dict[str, Any]:
    return {
        "account_id": row["account_id"],
        "merchant_name": row["merchant_name"],
        "time_window": window,
        "metrics": [
            {
                "metric_name": name,
                "metric_value": row[name],
                "aggregation": FAMILIES[name].aggregation,
                "sample_count": row["transaction_count"],
            }
            for name in query.metrics
            if row[name] is not None
        ],
        "metadata": {"region": row["region"], "source_system": "metric-platform"},
    }


def _metrics(named: list[str], aggregation: str | None) -> tuple[str, ...]:
    if aggregation is not None and aggregation not in _AGGREGATIONS:
        raise DemoError(f"aggregation {aggregation!r} is not one of {', '.join(_AGGREGATIONS)}")
    unknown = [name for name in named if name not in FAMILIES]
    if unknown:
        raise DemoError(f"no metric {unknown[0]!r}; metric_names are: {', '.join(FAMILIES)}")
    other = [name for name in named if aggregation not in (None, FAMILIES[name].aggregation)]
    if other:
        raise DemoError(f"{other[0]} is aggregated by {FAMILIES[other[0]].aggregation}, not by {aggregation}")
    fitting = (name for name, family in FAMILIES.items() if aggregation in (None, family.aggregation))
    return tuple(named) or tuple(fitting)


def _list(arguments: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in arguments.get(name, "").split(",") if item.strip()]


def _integer(arguments: Mapping[str, str], name: str, default: int, maximum: int | None) -> int:
    text = arguments.get(name, str(default))
    bounds = "at least 1" if maximum is None else f"1 to {maximum}"
    if not text.isascii() or not text.isdigit() or int(text) < 1 or (maximum is not None and int(text) > maximum):
        raise DemoError(f"{name} must be a whole number, {bounds}, not {text!r}")
    return int(text)


def _time(arguments: Mapping[str, str], name: str, default: float) -> float:
    text = arguments.get(name)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)  # a + that was not encoded
    except ValueError as error:
        raise DemoError(f"{name} must be an ISO 8601 time such as 2025-11-24T10:00:00Z, not {text!r}") from error
    if moment.tzinfo is None:
        raise DemoError(f"{name} needs a time zone, such as 2025-11-24T10:00:00Z, not {text!r}")
    return moment.timestamp()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
