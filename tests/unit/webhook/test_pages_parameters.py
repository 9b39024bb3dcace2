from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webhook.domain.alert import AlertStatus
from webhook.domain.severity import Severity
from webhook.web.api_parameters import AlertQuery, TriggerQuery
from webhook.web.parameters import AlertPageQuery, TriggerPageQuery, cursor

NOW = datetime(2026, 3, 14, 15, 9, tzinfo=UTC)


def test_a_page_drops_what_it_cannot_read_and_keeps_the_rest() -> None:
    query = AlertPageQuery.leniently(
        {"severity": "P1", "status": "GONE", "page": "-3", "utm_source": "mail", "q": " x "}
    )
    assert (query.severity, query.status, query.page, query.q) == (Severity.P1, None, 1, "x")


@given(st.dictionaries(st.sampled_from(["type", "severity", "status", "q", "period", "sort", "page"]), st.text()))
def test_no_query_string_breaks_a_page(given_: dict[str, str]) -> None:
    AlertPageQuery.leniently(given_).wanted(NOW)
    TriggerPageQuery.leniently(given_ | {"before": "x", "alert": "y"}).wanted(NOW)


@pytest.mark.parametrize(
    "wrong",
    [{"severty": "P1"}, {"severity": "P9"}, {"page": "0"}, {"page_size": "101"}, {"from_date": "yesterday"},
     {"sort_by": "title; DROP TABLE alert"}, {"from_date": "2026-02-30T00:00:00Z"}, {"search": "a\0b"},
     {"cursor": "1.2"}],
)  # fmt: skip
def test_the_api_refuses_what_it_does_not_know(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AlertQuery.model_validate(wrong)


def test_today_means_since_midnight_utc_and_for_closed_alerts_when_they_closed() -> None:
    midnight = NOW.replace(hour=0, minute=0)
    opened = AlertPageQuery.leniently({"period": "today"}).wanted(NOW)
    closed = AlertPageQuery.leniently({"period": "today", "status": "RESOLVED"}).wanted(NOW)
    assert (opened.since, opened.resolved_since) == (midnight, None)
    assert (closed.since, closed.resolved_since, closed.status) == (None, midnight, AlertStatus.RESOLVED)


def test_a_time_without_zone_is_utc() -> None:
    assert AlertQuery.model_validate({"from_date": "2026-03-14T10:00:00"}).from_date == NOW.replace(hour=10, minute=0)


@given(at=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), row_id=st.uuids())  # noqa: DTZ001 - hypothesis adds the zone
def test_a_place_in_the_list_comes_back_as_it_went(at: datetime, row_id: UUID) -> None:
    assert TriggerQuery.model_validate({"cursor": cursor(at, str(row_id))}).cursor == (at, str(row_id))


def test_the_triggers_of_one_alert_are_shown_whatever_the_period() -> None:
    alert_id = "6b1f0c9e-58a7-4d0f-9d53-8f4c4f6a1c11"
    assert TriggerPageQuery.leniently({"alert": alert_id}).wanted(NOW).since is None
    assert TriggerPageQuery.leniently({}).wanted(NOW).since == NOW - timedelta(hours=24)
