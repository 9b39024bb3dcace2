"""What the API may be asked for: paths, query strings and bodies. Anything unknown is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, PlainValidator, StringConstraints, model_validator

from webhook.domain.action import LONGEST_SNOOZE, DismissReason
from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome, TriggerStatus
from webhook.domain.severity import Severity
from webhook.storage.records import (
    AlertFilter,
    AlertPlace,
    AlertSort,
    NotificationFilter,
    TriggerFilter,
    from_microseconds,
    microseconds,
)
from webhook.storage.statistics import Interval
from webhook.web.parameters import FURTHEST_PAGE, PAGE_SIZE, Actor, Instant, Note, Parameters, Place, Reason, Text

LONGEST_PERIOD = timedelta(days=366)
LARGEST = 2**31 - 1
"""Of the numbers in the store."""

_ALERT_PLACE = r"^[0-9]{1,16}\.[0-9]{1,16}\.[0-9a-f]{32}$"


def alert_cursor(place: AlertPlace) -> str:
    """The place after one alert of a list."""
    return f"{place.value}.{microseconds(place.at)}.{UUID(place.id).hex}"


def _alert_place(text: object) -> AlertPlace:
    match = re.fullmatch(_ALERT_PLACE, str(text))
    if match is None or str(text).endswith("\n"):
        raise ValueError("take it from `next_cursor` of an answer")
    value, at, row_id = str(text).split(".")
    return AlertPlace(int(value), from_microseconds(int(at)), str(UUID(row_id)))


AlertCursor = Annotated[
    AlertPlace,
    PlainValidator(_alert_place, json_schema_input_type=Annotated[str, StringConstraints(pattern=_ALERT_PLACE)]),
]


ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]


class Query(Parameters):
    """A query string."""

    @classmethod
    @cache
    def model_json_schema(cls, **options: Any) -> dict[str, Any]:  # type: ignore[override]  # noqa: ANN401 - pydantic's
        """Kept: the library asks for it at every request. An absent parameter is absent, never `null`."""
        schema = super().model_json_schema(**options)
        for name, value in schema.get("properties", {}).items():
            kinds = [kind for kind in value.pop("anyOf", []) if kind != {"type": "null"}]
            schema["properties"][name] = {**(kinds[0] if kinds else {}), **value}
            if schema["properties"][name].get("default", "") in (None, ""):
                schema["properties"][name].pop("default", None)
        return schema


class Body(Parameters):
    """What changes an alert. Without `version` it applies to whatever the alert is now."""

    version: int | None = Field(None, ge=1, le=LARGEST, description="Of the alert that this was decided on.")


class OptionalBody(Body):
    """Nothing of it has to be said, so it may be absent as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, openapi_extra={"required": False})  # type: ignore[typeddict-unknown-key]

    @model_validator(mode="before")
    @classmethod
    def _none(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was sent
        return {} if given is None else given


class IfMatch(Query):
    """Read by `Api.doing`; here for the document."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    if_match: str | None = Field(
        None, alias="If-Match", json_schema_extra={"example": '"3"'}, description="The ETag of an alert: else 412."
    )


class AlertPath(Parameters):
    alert_id: UUID


class ChartPath(AlertPath):
    image_format: Literal["png", "svg"]


class NotificationPath(Parameters):
    notification_id: UUID


class AlertQuery(Query):
    merchant_id: Text = ""
    alert_type: Text = ""
    severity: Severity | None = None
    status: AlertStatus | None = None
    from_date: Instant | None = Field(None, description="Opened then or later.")
    to_date: Instant | None = Field(None, description="Opened then or earlier.")
    search: Text = Field("", description="Part of title, summary, merchant name or account id, in any case.")
    page: int = Field(1, ge=1, le=FURTHEST_PAGE)
    page_size: int = Field(PAGE_SIZE, ge=1, le=100)
    cursor: AlertCursor | None = Field(None, description="`next_cursor` of an answer; then `page` counts for nothing.")
    sort_by: AlertSort = AlertSort.TIME
    sort_order: Literal["asc", "desc"] = "desc"

    @property
    def offset(self) -> int:
        return 0 if self.cursor else (self.page - 1) * self.page_size

    @property
    def after(self) -> AlertPlace | None:
        """A count beyond all that are stored means the largest of them."""
        if self.cursor is None or self.sort_by is not AlertSort.OCCURRENCES:
            return self.cursor
        return replace(self.cursor, value=min(self.cursor.value, LARGEST))

    def wanted(self, accounts: frozenset[str] | None) -> AlertFilter:
        return AlertFilter(
            alert_type=self.alert_type,
            severity=self.severity,
            status=self.status,
            account_id=self.merchant_id,
            search=self.search,
            since=self.from_date,
            until=self.to_date,
            accounts=accounts,
        )


class ListQuery(Query):
    """A list that is newest first."""

    cursor: Place | None = Field(None, description="`next_cursor` of the answer before.")
    limit: int = Field(50, ge=1, le=100)


class TriggerQuery(ListQuery):
    merchant_id: Text = Field("", description="An account id, or part of a merchant's name or account id.")
    alert_id: UUID | None = None
    alert_type: Text = ""
    alert_name: Text = ""
    outcome: Outcome | None = None
    reason: Text = Field("", description="Part of the reason of the outcome.")
    status: TriggerStatus | None = None
    severity: Severity | None = None
    label: Text = Field("", description="Part of the labels as JSON text.")
    from_date: Instant | None = None
    to_date: Instant | None = None

    def wanted(self, accounts: frozenset[str] | None) -> TriggerFilter:
        given = {name: getattr(self, name) for name in ("alert_type", "alert_name", "outcome", "reason", "status")}
        return TriggerFilter(
            **given,
            account=self.merchant_id,
            severity=self.severity,
            label=self.label,
            alert_id=str(self.alert_id or ""),
            since=self.from_date,
            until=self.to_date,
            before=self.cursor,
            accounts=accounts,
        )


class LetterFilter(Parameters):
    """Which of the messages; without any field: all."""

    channel: Text = ""
    merchant_id: Text = ""
    alert_id: UUID | None = None
    from_date: Instant | None = None
    to_date: Instant | None = None

    def wanted(self, accounts: frozenset[str] | None, status: NotificationStatus | None) -> NotificationFilter:
        return NotificationFilter(
            status=status,
            channel=self.channel,
            account_id=self.merchant_id,
            alert_id=str(self.alert_id or ""),
            since=self.from_date,
            until=self.to_date,
            accounts=accounts,
        )


class LetterBody(LetterFilter):
    """All that match are meant, so nothing at all has to be said as `{}`."""


class NotificationQuery(LetterFilter, ListQuery):
    status: NotificationStatus | None = None


class LetterQuery(LetterFilter, ListQuery):
    pass


class StatisticsQuery(Query):
    merchant_id: Text = ""
    from_date: Instant | None = Field(None, description="Where absent, 24 hours before `to_date`; at most a year.")
    to_date: Instant | None = Field(None, description="Now where absent.")
    interval: Interval | None = Field(None, description="Hours up to three days, days beyond, where absent.")


class ChartQuery(Query):
    metric: Text = Field("", description="The one that matters most where absent.")
    theme: Literal["light", "dark"] = "light"
    v: Text = Field("", description="Of the page, to ask anew when the alert has changed.")


class ResolveBody(Body):
    resolution_note: Reason
    resolved_by: Actor | None = None


class DismissBody(Body):
    """`dismiss_reason` is one of the three, or words, which are then the feedback of OTHER."""

    dismiss_reason: DismissReason | Reason = Field(json_schema_extra={"example": "FALSE_POSITIVE"})
    feedback: Note = ""
    dismissed_by: Actor | None = None

    @property
    def said(self) -> tuple[DismissReason, str]:
        if self.dismiss_reason in set(DismissReason):
            return DismissReason(self.dismiss_reason), self.feedback
        return DismissReason.OTHER, "\n".join(filter(None, (self.dismiss_reason, self.feedback)))


class AcknowledgeBody(OptionalBody):
    note: Note = ""
    acknowledged_by: Actor | None = None


class ActorBody(OptionalBody):
    actor: Actor | None = None


class SnoozeBody(OptionalBody):
    """Until a time, or for some minutes; an hour where neither is said."""

    until: Instant | None = None
    minutes: int = Field(60, ge=1, le=LONGEST_SNOOZE // timedelta(minutes=1))
    snoozed_by: Actor | None = None

    def end(self, now: datetime) -> datetime:
        """Never further than 30 days ahead."""
        return min(self.until or now + timedelta(minutes=self.minutes), now + LONGEST_SNOOZE)


class CommentBody(Body):
    content: Reason = Field(json_schema_extra={"example": "Called the merchant. @dana please watch."})
    created_by: Actor | None = None


class ResendBody(OptionalBody):
    """On the channels named, or on all that the merchant has."""

    channels: list[ChannelName] = Field([], max_length=20, json_schema_extra={"example": ["slack"]})
    requested_by: Actor | None = None
