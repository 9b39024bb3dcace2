"""What Alertmanager holds as firing, from its API v2, and whether it has failed with deliveries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import requests
from prometheus_client.parser import text_string_to_metric_families

from webhook.adapters.http_errors import plain
from webhook.domain.missed import Matcher, Silence
from webhook.ports import HistoryUnavailable

WARM_UP = timedelta(seconds=90)
"""Prometheus sends what fires again every minute: an Alertmanager that has just started may know nothing yet."""

_GIVEN_UP = "alertmanager_notifications_failed_total"
_ELSEWHERE = "heartbeat"
"""A receiver that is no webhook of ours; Alertmanager names it with --enable-feature=receiver-name-in-metrics."""

Answer = TypeVar("Answer")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def firing_of(addresses: Sequence[str], *, warm_up: timedelta = WARM_UP) -> FiringAnywhere:
    """Of those that know nothing of one another; with | between them stand the members of one cluster."""
    members = [[AlertmanagerFiring(one, warm_up=warm_up) for one in each.split("|")] for each in addresses]
    return FiringAnywhere([each[0] if len(each) == 1 else FiringInCluster(each) for each in members])


class FiringAnywhere:
    """What any of several Alertmanagers holds that know nothing of one another."""

    def __init__(self, each: Sequence[AlertmanagerFiring | FiringInCluster]) -> None:
        self._each = each

    def firing(self) -> frozenset[str]:
        """Raise HistoryUnavailable where one cannot answer: what it alone holds may fire on."""
        return frozenset[str]().union(*(one.firing() for one in self._each))

    def mark(self) -> str:
        """Changes where any of them has given up a delivery or was started anew; raise HistoryUnavailable."""
        return ",".join(one.mark() for one in self._each)

    def silences(self) -> list[Silence]:
        """Of all of them, past ones too, as long as they are kept; raise HistoryUnavailable."""
        return [silence for one in self._each for silence in one.silences()]

    def close(self) -> None:
        for one in self._each:
            one.close()


class FiringInCluster:
    """Of members whom Prometheus sends the same alerts: as long as one answers, what none of these holds has ended."""

    def __init__(self, members: Sequence[AlertmanagerFiring]) -> None:
        self._members = members

    def firing(self) -> frozenset[str]:
        """Raise HistoryUnavailable where no member can answer, or all have just started."""
        return frozenset[str]().union(*self._answers(AlertmanagerFiring.firing))

    def mark(self) -> str:
        """Changes when a member goes or comes back, too: what it has given up meanwhile it alone knows."""
        told = self._asked(AlertmanagerFiring.mark)
        return "+".join("away" if isinstance(one, HistoryUnavailable) else one for one in told)

    def silences(self) -> list[Silence]:
        return [silence for one in self._answers(AlertmanagerFiring.silences) for silence in one]

    def close(self) -> None:
        for one in self._members:
            one.close()

    def _answers(self, question: Callable[[AlertmanagerFiring], Answer]) -> list[Answer]:
        return [one for one in self._asked(question) if not isinstance(one, HistoryUnavailable)]

    def _asked(self, question: Callable[[AlertmanagerFiring], Answer]) -> list[Answer | HistoryUnavailable]:
        """Of each member its answer, or why there is none; raise HistoryUnavailable where all have none."""
        told: list[Answer | HistoryUnavailable] = []
        for one in self._members:
            try:
                told.append(question(one))
            except HistoryUnavailable as error:
                told.append(error)
        failures = [one for one in told if isinstance(one, HistoryUnavailable)]
        if len(failures) == len(told):
            raise failures[-1]
        return told


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
        self._root = base_url.rstrip("/")
        self._timeout = timeout
        self._warm_up = warm_up
        self._clock = clock
        self._session = requests.Session()

    def firing(self) -> frozenset[str]:
        """Fingerprints; raise HistoryUnavailable, also when it started less than `warm_up` ago."""
        with _told_plainly():
            started = datetime.fromisoformat(self._get("status")["uptime"])
            if self._clock() - started < self._warm_up:
                raise HistoryUnavailable("Alertmanager has just started")
            alerts = self._get("alerts", active="true", silenced="true", inhibited="true", unprocessed="true")
            now = self._clock()
            return frozenset(alert["fingerprint"] for alert in alerts if datetime.fromisoformat(alert["endsAt"]) > now)

    def mark(self) -> str:
        """Its start and how many deliveries to our webhook it has given up since; raise HistoryUnavailable."""
        with _told_plainly():
            started = self._get("status")["uptime"]
            text = self._ask(f"{self._root}/metrics").text
            families = text_string_to_metric_families(text)
            samples = [sample for family in families for sample in family.samples if sample.name == _GIVEN_UP]
            ours = [each for each in samples if each.labels.get("receiver_name") != _ELSEWHERE]
            failed = sum(each.value for each in ours if each.labels.get("integration") == "webhook")
            return f"{started} {failed:.0f}"

    def silences(self) -> list[Silence]:
        """Those that are over too, as long as they are kept; raise HistoryUnavailable."""
        with _told_plainly():
            return [
                Silence(
                    [
                        Matcher(one["name"], one["value"], one["isRegex"], one.get("isEqual", True))
                        for one in found["matchers"]
                    ],
                    datetime.fromisoformat(found["startsAt"]),
                    datetime.fromisoformat(found["endsAt"]),
                )
                for found in self._get("silences")
            ]

    def close(self) -> None:
        self._session.close()

    def _get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        return self._ask(f"{self._root}/api/v2/{path}", **parameters).json()

    def _ask(self, url: str, **parameters: str) -> requests.Response:
        response = self._session.get(url, params=parameters, timeout=self._timeout)
        response.raise_for_status()
        return response


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        raise HistoryUnavailable(f"Alertmanager: {plain(error)}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise HistoryUnavailable(f"Alertmanager: unexpected answer: {plain(error)}") from None
