"""What Prometheus recorded as firing: its own series ALERTS, and what its rules say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from webhook.adapters.http_errors import plain
from webhook.adapters.prometheus import account_query
from webhook.domain.missed import Fired, runs
from webhook.domain.payload import TEXT_ANNOTATIONS
from webhook.ports import HistoryUnavailable

_DEFAULT_STEP_S = 60.0  # of a rule that is not there any more
_ALERTS = 'ALERTS{alertstate="firing",alert_type!=""}'
_ITS_OWN = ("__name__", "alertstate")
_STARTED, _DROPPED, _KNOWN = (
    "process_start_time_seconds",
    "prometheus_notifications_dropped_total",
    "prometheus_notifications_alertmanagers_discovered",
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """`step` in s: how often it is evaluated."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    step: float


class PrometheusFired:
    """Of rules that are Sentinel's: their alerts have an `alert_type`."""

    def __init__(self, base_url: str, *, timeout: float = 10.0) -> None:
        self._root = base_url.rstrip("/")
        self._url = f"{self._root}/api/v1"
        self._timeout = timeout
        self._session = requests.Session()

    def fired(self, since: datetime, until: datetime) -> list[Fired]:
        """What began firing after `since` and had ended by `until`; raise HistoryUnavailable."""
        rules = self._rules()
        seconds = math.ceil((until - since).total_seconds())
        found = self._get("query", query=f"{_ALERTS}[{seconds}s]", time=str(until.timestamp()))["result"]
        return [
            Fired(labels, _time(first), _time(last + step))
            for labels, times in (_series(one) for one in found)
            for step in [_step(_rule(rules, labels))]
            for first, last in runs(times, step)
            if _time(first) > since + timedelta(seconds=2.5 * step) and _time(last + 2.5 * step) < until
        ]

    def mark(self) -> str:
        """Its start and how many alerts no Alertmanager took since; raise HistoryUnavailable.

        What answers without these counts (Mimir, Thanos, a proxy) has always the same mark: nothing is known of it.
        """
        counts = self._counts()
        if _DROPPED not in counts:
            return ""
        mark = f"{counts.get(_STARTED, 0):.0f} {counts[_DROPPED]:.0f}"
        if counts.get(_KNOWN, 1):
            return mark
        return f"{mark} nobody to send to at {datetime.now(UTC).isoformat()}"  # not every version counts these

    def annotations(self, fired: Fired) -> dict[str, str]:
        """What the rule says of itself, the merchant's name, and its metrics: the highest values of that time.

        What else an annotation is computed from only Prometheus knows. Raise HistoryUnavailable.
        """
        rule = _rule(self._rules(), fired.labels)
        if rule is None:
            return {}
        known = {name: text for name, text in rule.annotations.items() if "{{" not in text}
        account_id = fired.labels.get("account_id")
        if account_id is None:
            return known
        for name in rule.annotations.keys() - known.keys() - TEXT_ANNOTATIONS:
            value = self._highest(name, account_id, fired)
            if value is not None:
                known[name] = repr(value)
        name = self._merchant_name(account_id, fired)
        return {**known, "merchant_name": name} if name else known

    def close(self) -> None:
        self._session.close()

    def _highest(self, metric: str, account_id: str, fired: Fired) -> float | None:
        lasted = max(1, math.ceil((fired.ends_at - fired.starts_at).total_seconds()))
        try:
            query = account_query(metric, account_id)
        except HistoryUnavailable:
            return None  # an annotation that is no metric
        step = max(1, lasted // 500)
        found = self._get("query", query=f"max_over_time({query}[{lasted}s:{step}s])", time=_at(fired.ends_at))
        values = [float(one["value"][1]) for one in found["result"]]
        return max(filter(math.isfinite, values), default=None)

    def _merchant_name(self, account_id: str, fired: Fired) -> str:
        quoted = account_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        query = f'max by (merchant_name) (sentinel_transaction_count{{account_id="{quoted}",merchant_name!=""}})'
        found = self._get("query", query=query, time=_at(fired.starts_at))["result"]
        return min((str(one["metric"]["merchant_name"]) for one in found), default="")

    def _rules(self) -> dict[str, list[_Rule]]:
        rules: dict[str, list[_Rule]] = {}
        for group in self._get("rules", type="alert")["groups"]:
            for rule in group["rules"]:
                one = _Rule(rule.get("labels") or {}, rule.get("annotations") or {}, float(group["interval"]))
                rules.setdefault(rule["name"], []).append(one)
        return rules

    def _counts(self) -> dict[str, float]:
        """Samples of its /metrics by name, added up; none where there is no such page."""
        try:
            response = self._session.get(f"{self._root}/metrics", timeout=self._timeout)
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                response.raise_for_status()
            families = list(text_string_to_metric_families(response.text if response.ok else ""))
        except requests.RequestException as error:
            raise HistoryUnavailable(f"Prometheus: {plain(error)}") from None
        except ValueError as error:
            raise HistoryUnavailable(f"Prometheus: unexpected answer: {plain(error)}") from None
        counts: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            if sample.name in (_STARTED, _DROPPED, _KNOWN):
                counts[sample.name] = counts.get(sample.name, 0) + sample.value
        return counts

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        try:
            response = self._session.get(f"{self._url}/{path}", params=parameters, timeout=self._timeout)
            body = response.json()
            if body["status"] != "success":
                raise HistoryUnavailable(f"Prometheus: {body.get('errorType')}: {body.get('error')}")
            return dict(body["data"])
        except requests.RequestException as error:
            raise HistoryUnavailable(f"Prometheus: {plain(error)}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryUnavailable(f"Prometheus: unexpected answer: {plain(error)}") from None


def _series(found: Mapping[str, Any]) -> tuple[dict[str, str], list[float]]:
    labels = {name: value for name, value in found["metric"].items() if name not in _ITS_OWN}
    return labels, [float(time) for time, _ in found["values"]]


def _rule(rules: Mapping[str, Sequence[_Rule]], labels: Mapping[str, str]) -> _Rule | None:
    """The one whose own labels the alert has; those with a template in them are not compared."""

    def fitting() -> Iterator[_Rule]:
        for rule in rules.get(labels.get("alertname", ""), ()):
            if all(labels.get(name) == value for name, value in rule.labels.items() if "{{" not in value):
                yield rule

    return next(fitting(), None)


def _step(rule: _Rule | None) -> float:
    return rule.step if rule is not None else _DEFAULT_STEP_S


def _time(seconds: float) -> datetime:
    """To the millisecond, which is what Prometheus sends to Alertmanager."""
    return datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)


def _at(moment: datetime) -> str:
    return str(moment.timestamp())
