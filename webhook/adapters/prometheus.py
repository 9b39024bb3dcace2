"""The history of a metric from Prometheus' range API."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from webhook.adapters.http_errors import plain
from webhook.ports import HistoryUnavailable, Series

_DAY = "sentinel_days_ago"
_Found = tuple[dict[str, str], list[tuple[datetime, float]]]
"""Labels and values of one series."""

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class PrometheusHistory:
    """`sentinel_<metric>` of one account, the maximum over replicas and regions."""

    def __init__(self, base_url: str, *, timeout: float = 3.0) -> None:
        self._url = f"{base_url.rstrip('/')}/api/v1/query_range"
        self._timeout = timeout
        self._session = requests.Session()

    def range(self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta) -> Series:
        """Values at `start`, `start + step`, …, `end`, gaps left out; raise HistoryUnavailable."""
        found = self._ask(account_query(metric, account_id), start, end, step)
        points = [point for _, values in found for point in values]
        return Series(metric, [time for time, _ in points], [value for _, value in points])

    def past_days(
        self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta, *, days: int
    ) -> dict[int, list[tuple[datetime, float]]]:
        """The same hours of each day before in one query, at the times of today; raise HistoryUnavailable."""
        parts = (
            f'label_replace({account_query(metric, account_id, f" offset {day}d")}, "{_DAY}", "{day}", "", "")'
            for day in range(1, days + 1)
        )
        try:
            return {
                int(labels[_DAY]): [point for point in points if math.isfinite(point[1])]
                for labels, points in self._ask(" or ".join(parts), start, end, step)
            }
        except (KeyError, ValueError) as error:
            raise HistoryUnavailable(f"Prometheus: unexpected answer: {plain(error)}") from None

    def _ask(self, query: str, start: datetime, end: datetime, step: timedelta) -> list[_Found]:
        parameters: dict[str, str | float] = {
            "query": query,
            "start": start.timestamp(),
            "end": end.timestamp(),
            "step": step.total_seconds(),
            "timeout": self._timeout,
        }
        try:
            response = self._session.post(self._url, data=parameters, timeout=self._timeout)
            body: dict[str, Any] = response.json()
            if body["status"] != "success":
                raise HistoryUnavailable(f"Prometheus: {body.get('errorType')}: {body.get('error')}")
            return [
                (
                    dict(series["metric"]),
                    [(datetime.fromtimestamp(float(time), UTC), float(value)) for time, value in series["values"]],
                )
                for series in body["data"]["result"]
            ]
        except requests.RequestException as error:
            raise HistoryUnavailable(f"Prometheus: {plain(error)}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryUnavailable(f"Prometheus: unexpected answer: {plain(error)}") from None

    def close(self) -> None:
        self._session.close()


def account_query(metric: str, account_id: str, modifier: str = "") -> str:
    """PromQL for one account, with an offset where wanted.

    The name is checked and the label value escaped, for both come from outside.
    """
    if not _METRIC_NAME.fullmatch(metric):
        raise HistoryUnavailable(f"no metric name: {metric!r}")
    escaped = account_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'max by (account_id) (sentinel_{metric}{{account_id="{escaped}"}}{modifier})'
