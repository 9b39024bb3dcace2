"""What a request may ask for: query strings and bodies, checked by pydantic.

The API refuses what it does not know; a page drops it, so that an old bookmark still opens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
)

from webhook.domain.action import DismissReason
from webhook.domain.alert import SYSTEM, AlertStatus, Outcome
from webhook.domain.severity import Severity
from webhook.storage.records import AlertFilter, AlertSort, TriggerFilter, from_microseconds, microseconds

PERIODS = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
PAGE_SIZE = 20
REASON_LENGTH = 2000
FURTHEST_PAGE = 100_000

PLAIN = r"^[^\x00]*$"
"""PostgreSQL takes no NUL."""
SAID = r"^[^\x00]*[^\s\x00][^\x00]*$"
"""More than blanks."""

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Nothing is older or younger; times beyond mean these, so that one can still reckon with them."""


def utc(value: datetime) -> datetime:
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return min(max(aware, _FIRST), _LAST).astimezone(UTC)


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255, pattern=PLAIN)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_LENGTH, pattern=SAID)]

Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH, pattern=PLAIN)]


def _person(name: str) -> str:
    if unicodedata.normalize("NFKC", name).strip().casefold() == SYSTEM:
        raise ValueError(f"`{SYSTEM}` is reserved for what no person does: give your own name")
    return name


Actor = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=SAID),
    AfterValidator(_person),
]


def no_number(value: object) -> object:
    """A number would pass as seconds since 1970, or as milliseconds: nobody means either."""
    if isinstance(value, int | float):
        raise ValueError("write a time as 2026-01-05T12:00:00Z")  # noqa: TRY004 - pydantic collects ValueError
    return value


Instant = Annotated[datetime, BeforeValidator(no_number), AfterValidator(utc)]


def cursor(at: datetime, row_id: str) -> str:
    """The place after one row of a list that is newest first: microseconds since 1970, and the row's id."""
    return f"{microseconds(at)}.{UUID(row_id).hex}"


_PLACE = r"^[0-9]{1,16}\.[0-9a-f]{32}$"


def _place(text: object) -> tuple[datetime, str]:
    if re.fullmatch(_PLACE, str(text)) is None or str(text).endswith("\n"):
        raise ValueError("take it from the answer before")
    at, row_id = str(text).split(".")
    return from_microseconds(int(at)), str(UUID(row_id))


Place = Annotated[
    tuple[datetime, str],
    PlainValidator(_place, json_schema_input_type=Annotated[str, StringConstraints(pattern=_PLACE)]),
]


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

    def wanted(self, now: datetime, accounts: frozenset[str] | None = None) -> AlertFilter:
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
            accounts=accounts,
        )


class TriggerPageQuery(Parameters):
    account: Text = ""
    outcome: Outcome | None = None
    period: Literal["1h", "24h", "7d", "30d", "today", "all"] = "24h"
    alert: UUID | None = None
    before: Place | None = None

    def wanted(self, now: datetime, accounts: frozenset[str] | None = None) -> TriggerFilter:
        period = None if self.alert or self.period == "all" else self.period
        return TriggerFilter(
            account=self.account,
            outcome=self.outcome,
            alert_id=str(self.alert or ""),
            since=start_of(period, now),
            before=self.before,
            accounts=accounts,
        )


class SeenForm(Parameters):
    """The alert as the page showed it on which somebody decided: all of it hidden in its forms."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    version: int | None = None
    severity: Severity | None = None
    since: Instant | None = None


class ResolveForm(Parameters):
    model_config = ConfigDict(extra="ignore", frozen=True)
    note: Reason


class DismissForm(Parameters):
    """`detail` is needed for Other, and welcome for the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    reason: Literal["False positive", "Normal business", "Other"]
    detail: Note = ""

    @property
    def kind(self) -> DismissReason:
        return DismissReason(self.reason.upper().replace(" ", "_"))


class SnoozeForm(Parameters):
    model_config = ConfigDict(extra="ignore", frozen=True)
    hours: Literal["1", "4", "24", "168"]


class CommentForm(Parameters):
    model_config = ConfigDict(extra="ignore", frozen=True)
    content: Reason


class ResendForm(Parameters):
    model_config = ConfigDict(extra="ignore", frozen=True)
    channel: Text = ""


class NoForm(Parameters):
    """A button alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def day_start(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def start_of(period: str | None, now: datetime) -> datetime | None:
    """The start of a named period; None for no period."""
    if period is None:
        return None
    return day_start(now) if period == "today" else now - PERIODS[period][1]
