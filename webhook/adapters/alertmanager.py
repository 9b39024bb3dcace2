"""What Alertmanager holds as firing, from its API v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from webhook.adapters.http_errors import plain
from webhook.ports import HistoryUnavailable

WARM_UP = timedelta(seconds=90)
"""Prometheus sends what fires again every minute: an Alertmanager that has just started may know nothing yet."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FiringAnywhere:
    """What any of several Alertmanagers holds that know nothing of one another."""

    def __init__(self, each: Sequence[AlertmanagerFiring]) -> None:
        self._each = each

    def firing(self) -> frozenset[str]:
        """Raise HistoryUnavailable where one cannot answer: what it alone holds may fire on."""
        return frozenset[str]().union(*(one.firing() for one in self._each))

    def close(self) -> None:
        for one in self._each:
            one.close()


class AlertmanagerFiring:
    """Firing alerts, silenced and inhibited ones too: those go on although nobody is told of them."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 5.0,
        warm_up: timedelta = WARM_UP,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._base_url = f"{base_url.rstrip('/')}/api/v2"
        self._timeout = timeout
        self._warm_up = warm_up
        self._clock = clock
        self._session = requests.Session()

    def firing(self) -> frozenset[str]:
        """Fingerprints; raise HistoryUnavailable, also when it started less than `warm_up` ago."""
        try:
            started = datetime.fromisoformat(self._get("status")["uptime"])
            if self._clock() - started < self._warm_up:
                raise HistoryUnavailable("Alertmanager has just started")
            alerts = self._get("alerts", active="true", silenced="true", inhibited="true", unprocessed="true")
            now = self._clock()
            return frozenset(alert["fingerprint"] for alert in alerts if datetime.fromisoformat(alert["endsAt"]) > now)
        except requests.RequestException as error:
            raise HistoryUnavailable(f"Alertmanager: {plain(error)}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryUnavailable(f"Alertmanager: unexpected answer: {plain(error)}") from None

    def close(self) -> None:
        self._session.close()

    def _get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        response = self._session.get(f"{self._base_url}/{path}", params=parameters, timeout=self._timeout)
        response.raise_for_status()
        return response.json()
