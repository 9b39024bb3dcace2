"""What a request may ask for: query strings and bodies, checked by pydantic.

The API refuses what it does not know; a page drops it, so that an old bookmark still opens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    model_validator,
)

from webhook.domain.alert import SYSTEM, AlertStatus, Outcome
from webhook.domain.severity import Severity
from webhook.storage.records import AlertFilter, AlertSort, TriggerFilter

PERIODS = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
PAGE_SIZE = 20
REASON_LENGTH = 2000
FURTHEST_PAGE = 100_000


def _utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255, pattern=r"^[^\x00]*$")]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_LENGTH, pattern=r"^[^\x00]*$")
]


def _person(name: str) -> str:
    if unicodedata.normalize("NFKC", name).strip().casefold() == SYSTEM:
        raise ValueError(f"`{SYSTEM}` is reserved for what no person does: give your own name")
    return name


Actor = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00]*$"),
    AfterValidator(_person),
]
Instant = Annotated[datetime, AfterValidator(_utc)]


def cursor(at: datetime, row_id: str) -> str:
    """The place after one row of a list that is ordered by time and id."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}_{row_id}"


def _place(text: object) -> tuple[datetime, str]:
    at, _, row_id = str(text).partition("_")
    try:
        return _utc(datetime.fromisoformat(at)), str(UUID(row_id))
    except ValueError:
        raise ValueError("take it from `next` of an answer") from None


Place = Annotated[tuple[datetime, str], PlainValidator(_place, json_schema_input_type=str)]


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def leniently(cls, given: Mapping[str, Any]) -> Self:
        """Drop what is unknown or wrong."""
        values = _filled(given)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = {str(entry["loc"][0]) for entry in error.errors() if entry["loc"]}
            return cls.model_validate({name: value for name, value in values.items() if name not in wrong})


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value != ""}


class Query(Parameters):
    """A query string of the API: empty values count as absent."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was sent
        return _filled(given) if isinstance(given, Mapping) else given


class AlertPath(Parameters):
    alert_id: UUID


class ChartPath(AlertPath):
    image_format: Literal["png", "svg"]


class AlertPageQuery(Parameters):
    """The filter bar of the list."""

    type: Text = ""
    severity: Severity | None = None
    status: AlertStatus | None = None
    q: Text = ""
    period: Literal["1h", "24h", "7d", "30d", "today"] | None = None
    sort: Literal["time", "severity"] = "time"
    page: int = Field(1, ge=1, le=FURTHEST_PAGE)

    @property
    def filtered(self) -> bool:
        return bool(self.type or self.severity or self.status or self.q or self.period)

    @property
    def order(self) -> AlertSort:
        return AlertSort.SEVERITY if self.sort == "severity" else AlertSort.TIME

    def wanted(self, now: datetime) -> AlertFilter:
        """`today` is the day in UTC, and of closed alerts the day they closed: what the head of the list counts."""
        today = self.period == "today"
        closed_today = today and self.status in (AlertStatus.RESOLVED, AlertStatus.DISMISSED)
        return AlertFilter(
            alert_type=self.type,
            severity=self.severity,
            status=self.status,
            search=self.q,
            since=None if closed_today else start_of(self.period, now),
            resolved_since=day_start(now) if closed_today else None,
        )


class TriggerPageQuery(Parameters):
    account: Text = ""
    outcome: Outcome | None = None
    period: Literal["1h", "24h", "7d", "30d", "today", "all"] = "24h"
    alert: UUID | None = None
    before: Place | None = None

    def wanted(self, now: datetime) -> TriggerFilter:
        period = None if self.alert or self.period == "all" else self.period
        return TriggerFilter(
            account=self.account,
            outcome=self.outcome,
            alert_id=str(self.alert or ""),
            since=start_of(period, now),
            before=self.before,
        )


class AlertQuery(Query):
    """GET /api/v1/alerts."""

    merchant_id: Text = ""
    alert_type: Text = ""
    severity: Severity | None = None
    status: AlertStatus | None = None
    from_date: Instant | None = None
    to_date: Instant | None = None
    search: Text = ""
    page: int = Field(1, ge=1, le=FURTHEST_PAGE)
    page_size: int = Field(PAGE_SIZE, ge=1, le=100)
    sort_by: AlertSort = AlertSort.TIME
    sort_order: Literal["asc", "desc"] = "desc"

    def wanted(self) -> AlertFilter:
        return AlertFilter(
            alert_type=self.alert_type,
            severity=self.severity,
            status=self.status,
            account_id=self.merchant_id,
            search=self.search,
            since=self.from_date,
            until=self.to_date,
        )


class TriggerQuery(Query):
    """GET /api/v1/triggers; `before` is `next` of the answer before."""

    merchant_id: Text = ""
    outcome: Outcome | None = None
    alert_id: UUID | None = None
    from_date: Instant | None = None
    before: Place | None = None
    limit: int = Field(50, ge=1, le=100)

    def wanted(self) -> TriggerFilter:
        return TriggerFilter(
            account=self.merchant_id,
            outcome=self.outcome,
            alert_id=str(self.alert_id or ""),
            since=self.from_date,
            before=self.before,
        )


class ChartQuery(Query):
    metric: Text = ""
    theme: Literal["light", "dark"] = "light"
    v: Text = ""  # of the page, to ask anew when the alert has changed


class ResolveBody(Parameters):
    resolution_note: Reason
    resolved_by: Actor


class DismissBody(Parameters):
    dismiss_reason: Reason
    dismissed_by: Actor


class ResolveForm(Parameters):
    model_config = ConfigDict(extra="ignore", frozen=True)
    note: Reason


class DismissForm(Parameters):
    """`detail` is needed for Other, and welcome for the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    reason: Literal["False positive", "Normal business", "Other"]
    detail: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH, pattern=r"^[^\x00]*$")
    ] = ""

    @property
    def text(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def day_start(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def start_of(period: str | None, now: datetime) -> datetime | None:
    """The start of a named period; None for no period."""
    if period is None:
        return None
    return day_start(now) if period == "today" else now - PERIODS[period][1]
