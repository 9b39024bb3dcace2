"""A payload of Alertmanager (version 4) or of Grafana's alerting as triggers, each alert of it on its own.

Unknown fields are accepted. Grafana's payload has the same form and more: `orgId`, and with each alert `values`,
which are metrics here, and links, which are kept beside the annotations.

One alert that cannot be understood becomes `Rejected` and harms no other. What is merely missing is filled in:
no account makes an operations alert, no alert type takes the rule's name, no known severity is P3.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from webhook.domain.alert import ALERTMANAGER, GRAFANA, OPERATIONS_ACCOUNT, Trigger, TriggerStatus
from webhook.domain.severity import Severity, graver

TEXT_ANNOTATIONS = frozenset({"account_id", "merchant_name", "alert_type", "summary", "description", "runbook_url"})
_THRESHOLD_PREFIX = "threshold_"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL keeps neither NUL nor half a surrogate pair
_LONGEST = {"account_id": 255, "alert_name": 255, "alert_type": 64, "fingerprint": 128}
_RAW_KEPT = 2_000
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_GRAFANA_LINKS = ("dashboardURL", "panelURL", "silenceURL", "imageURL", "valueString")
_GRAFANA_TROUBLE = frozenset({"DatasourceNoData", "DatasourceError"})
_OPERATIONS_TYPE = "OPERATIONS"


class PayloadError(ValueError):
    """Not a payload: nothing in it can be taken as a list of alerts."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One alert of a payload that says too little to act on. `raw` is its JSON text, at most 2,000 characters."""

    reason: str
    raw: str
    source: str = ALERTMANAGER


@dataclass(frozen=True, slots=True)
class _Delivered:
    """What holds for all alerts of a payload."""

    source: str
    urgent: bool


def parse_payload(payload: object, *, urgent: bool = False) -> list[Trigger | Rejected]:
    """One entry per alert, in the payload's order; raise PayloadError when there is no list of alerts.

    `urgent` deliveries are at least P1. Each alert's own `status` counts, not the payload's.
    """
    if not isinstance(payload, dict):
        raise PayloadError("the body must be a JSON object with a list `alerts`")
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        raise PayloadError("`alerts` must be a list")
    delivered = _Delivered(GRAFANA if "orgId" in payload else ALERTMANAGER, urgent)
    return [_isolated(alert, delivered) for alert in alerts]


def _isolated(alert: object, delivered: _Delivered) -> Trigger | Rejected:
    try:
        return _parse_alert(alert, delivered)
    except RecursionError:
        return Rejected("the alert is nested too deeply", "", delivered.source)


def _parse_alert(alert: object, delivered: _Delivered) -> Trigger | Rejected:
    if not isinstance(alert, dict):
        return _rejected("the alert is not an object", alert, delivered)
    if not isinstance(alert.get("labels"), dict):
        return _rejected("`labels` is not an object", alert, delivered)
    starts_at = _time(alert.get("startsAt"))
    if starts_at is None:
        return _rejected("`startsAt` is not a time", alert, delivered)
    labels, annotations = _texts(alert["labels"]), _texts(alert.get("annotations"))
    if delivered.source == GRAFANA:
        annotations = {**_links(alert), **annotations}
    account_id = labels.get("account_id") or annotations.get("account_id") or OPERATIONS_ACCOUNT
    if len(account_id) > _LONGEST["account_id"]:
        return _rejected(f"`account_id` is longer than {_LONGEST['account_id']} characters", alert, delivered)
    trigger = _trigger(alert, labels, annotations, account_id, starts_at, delivered=delivered)
    return _of_grafana(trigger, alert) if delivered.source == GRAFANA else trigger


def _of_grafana(trigger: Trigger, alert: Mapping[str, Any]) -> Trigger:
    """With `values` as metrics; what an annotation names wins. A data source without data concerns no merchant."""
    trigger = replace(trigger, metrics={**_values(alert.get("values")), **trigger.metrics})
    if trigger.alert_name in _GRAFANA_TROUBLE:
        trigger = replace(trigger, account_id=OPERATIONS_ACCOUNT, merchant_name="", alert_type=_OPERATIONS_TYPE)
    return trigger


def _links(alert: Mapping[str, Any]) -> dict[str, str]:
    return {name: _storable(text) for name in _GRAFANA_LINKS if isinstance(text := alert.get(name), str) and text}


def _values(values: object) -> dict[str, float]:
    """By the name of the query or expression (`A`, `B0`); without data they are null or NaN."""
    if not isinstance(values, dict):
        return {}
    numbers = {str(name): value for name, value in values.items() if _is_number(value)}
    return {_storable(name): float(value) for name, value in numbers.items()}


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _trigger(
    alert: Mapping[str, Any],
    labels: dict[str, str],
    annotations: dict[str, str],
    account_id: str,
    starts_at: datetime,
    *,
    delivered: _Delivered,
) -> Trigger:
    alert_name = labels.get("alertname") or "unknown"
    alert_type = labels.get("alert_type") or annotations.get("alert_type") or _upper_snake(alert_name)
    severity = _severity(labels.get("severity", ""))
    metrics, thresholds = _numbers(annotations)
    ends_at = _time(alert.get("endsAt"))
    return Trigger(
        fingerprint=_fingerprint(alert.get("fingerprint"), labels),
        status=TriggerStatus.RESOLVED if alert.get("status") == "resolved" else TriggerStatus.FIRING,
        starts_at=starts_at,
        ends_at=ends_at if ends_at != _NEVER else None,
        alert_name=alert_name[: _LONGEST["alert_name"]],
        alert_type=alert_type[: _LONGEST["alert_type"]],
        severity=graver(severity, Severity.P1) if delivered.urgent else severity,
        account_id=account_id,
        merchant_name=labels.get("merchant_name") or annotations.get("merchant_name", ""),
        metrics=metrics,
        thresholds=thresholds,
        summary=annotations.get("summary", ""),
        labels=labels,
        annotations=annotations,
        generator_url=_storable(str(alert.get("generatorURL") or "")),
        urgent=delivered.urgent,
        source=delivered.source,
    )


def _numbers(annotations: Mapping[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics and thresholds: every annotation that is a finite number, full precision."""
    metrics: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    for name, text in annotations.items():
        if name in TEXT_ANNOTATIONS or not _NUMBER.fullmatch(text.strip()):
            continue
        value = float(text)
        if not math.isfinite(value):
            continue
        if name.startswith(_THRESHOLD_PREFIX):
            thresholds[name.removeprefix(_THRESHOLD_PREFIX)] = value
        else:
            metrics[name] = value
    return metrics, thresholds


def _time(value: object) -> datetime | None:
    """RFC 3339, nanoseconds cut to microseconds, as UTC; a time without a zone is UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _severity(text: str) -> Severity:
    """P3 where none of ours is named: an alert is never lost because of its label."""
    try:
        return Severity(text.strip().upper())
    except ValueError:
        return Severity.P3


def _fingerprint(value: object, labels: Mapping[str, str]) -> str:
    if isinstance(value, str) and 0 < len(value) <= _LONGEST["fingerprint"]:
        return _storable(value)
    identity = value if isinstance(value, str) and value else json.dumps(labels, sort_keys=True)
    return hashlib.sha256(_storable(identity).encode()).hexdigest()[:32]


def _upper_snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^0-9A-Za-z]+", "_", words).strip("_").upper() or "UNKNOWN"


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {_storable(str(name)): _storable(_text(item)) for name, item in value.items() if item is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _storable(text: str) -> str:
    return text if text.isprintable() else _UNSTORABLE.sub("\ufffd", text)


def _rejected(reason: str, raw: object, delivered: _Delivered) -> Rejected:
    return Rejected(reason, _storable(json.dumps(raw, ensure_ascii=False))[:_RAW_KEPT], delivered.source)
