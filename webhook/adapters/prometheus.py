"""The history of a metric from Prometheus' range API."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from webhook.adapters.http_errors import plain
from webhook.ports import HistoryUnavailable, Series

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class PrometheusHistory:
    """`sentinel_<metric>` of one account, the maximum over replicas and regions."""

    def __init__(self, base_url: str, *, timeout: float = 3.0) -> None:
        self._url = f"{base_url.rstrip('/')}/api/v1/query_range"
        self._timeout = timeout
        self._session = requests.Session()

    def range(self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta) -> Series:
        """Values at `start`, `start + step`, …, `end`, gaps left out; raise HistoryUnavailable."""
        parameters: dict[str, str | float] = {
            "query": account_query(metric, account_id),
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
            points = [point for series in body["data"]["result"] for point in series["values"]]
            times = [datetime.fromtimestamp(float(time), UTC) for time, _ in points]
            return Series(metric, times, [float(value) for _, value in points])
        except requests.RequestException as error:
            raise HistoryUnavailable(f"Prometheus: {plain(error)}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryUnavailable(f"Prometheus: unexpected answer: {plain(error)}") from None

    def close(self) -> None:
        self._session.close()


def account_query(metric: str, account_id: str) -> str:
    """PromQL for one account; the name is checked and the label value escaped, for both come from outside."""
    if not _METRIC_NAME.fullmatch(metric):
        raise HistoryUnavailable(f"no metric name: {metric!r}")
    escaped = account_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'max by (account_id) (sentinel_{metric}{{account_id="{escaped}"}})'
