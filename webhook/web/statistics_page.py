"""The page of figures: what was going on in the last day, week or month, drawn by the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal

from flask import Blueprint, render_template, request

from webhook.domain.alert import NotificationStatus, Outcome
from webhook.domain.metric import format_duration
from webhook.storage.page_figures import page_figures
from webhook.storage.statistics import Interval, Period, period_statistics
from webhook.web.access import principal
from webhook.web.api import Api
from webhook.web.parameters import Parameters, Text
from webhook.web.wording import channel_label, outcome_label, severity_word, type_label

DAYS = {"1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days"}
WAITS = (
    ("up to 5 min", 300),
    ("5 to 15 min", 900),
    ("15 min to 1 h", 3600),
    ("1 to 4 h", 4 * 3600),
    ("4 h to 1 d", 86400),
    ("later", float("inf")),
)
"""How long people took, and up to how many seconds that is."""


class StatisticsPageQuery(Parameters):
    days: Literal["1", "7", "30"] = "7"
    account: Text = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a bar chart: `fill` is 0..100; `tone` names a colour of the style sheet."""

    label: str
    number: int
    fill: float
    tone: str = ""
    note: str = ""
    link: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A day or an hour: heights are 0..100, `label` is empty where there is no room for one."""

    at: datetime
    text: str
    opened: int
    resolved: int
    opened_height: float
    resolved_height: float


def add_statistics_page(pages: Blueprint, api: Api) -> None:
    def statistics() -> str:
        return _statistics(api)

    pages.add_url_rule("/statistics", "statistics", statistics)


def _statistics(api: Api) -> str:
    query, until = StatisticsPageQuery.leniently(request.args), api.clock()
    days = int(query.days)
    interval = Interval.HOUR if days == 1 else Interval.DAY
    since = interval.start(until - timedelta(days=days)) + interval.length
    period = Period(since, until, interval, _accounts(query.account))
    with api.database.read() as connection:
        found, more = period_statistics(connection, period), page_figures(connection, period)
    return render_template(
        "statistics.html",
        query=query,
        days=DAYS,
        period=period,
        active=sum(found.active.values()),
        opened=sum(found.opened.values()),
        columns=columns(found.opened, found.resolved, interval),
        most=max([*found.opened.values(), *found.resolved.values(), 0]),
        types=bars((type_label(name), count, "", {"type": name}) for name, count in _most_first(found.by_type)),
        severities=bars(
            (f"{level} {severity_word(level)}", count, level.lower(), {"severity": level})
            for level, count in more.by_severity.items()
        ),
        outcomes=bars(
            (outcome_label(outcome), count, _OUTCOME_TONES.get(outcome, ""), {"outcome": outcome.value})
            for outcome, count in found.outcomes.items()
        ),
        messages=_messages(more.messages),
        waits=_waits(more.seconds_to_act),
        acted=len(more.seconds_to_act),
        first_action=_lasted(median(more.seconds_to_act) if more.seconds_to_act else None),
        acknowledged=_lasted(found.seconds_to_acknowledge),
        resolved=_lasted(found.seconds_to_resolve),
        merchants=found.merchants,
    )


_OUTCOME_TONES = {Outcome.CREATED: "p1", Outcome.RESOLVED: "good", Outcome.REJECTED: "bad"}


def _accounts(asked: str) -> frozenset[str] | None:
    """Of those who may be seen, the one that is asked for."""
    mine = principal().accounts
    if not asked:
        return mine
    return frozenset({asked}) if mine is None else mine & {asked}


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def bars(entries: Iterable[tuple[str, int, str, Mapping[str, str] | None]]) -> list[Bar]:
    """Label, number, tone and filter of a link; the longest fills its line."""
    given = list(entries)
    most = max((number for _, number, _, _ in given), default=0)
    return [Bar(label, number, _share(number, most), tone, "", link) for label, number, tone, link in given]


def columns(opened: Mapping[datetime, int], resolved: Mapping[datetime, int], interval: Interval) -> list[Column]:
    most = max([*opened.values(), *resolved.values(), 0])
    form = "%H:%M" if interval is Interval.HOUR else "%d %b"
    return [
        Column(at, f"{at:{form}}", count, resolved[at], _share(count, most), _share(resolved[at], most))
        for at, count in opened.items()
    ]


def _share(number: int, most: int) -> float:
    """Percent; what is there at all can be seen."""
    return max(1.5, round(100 * number / most, 2)) if number else 0


def _messages(found: Mapping[str, Mapping[NotificationStatus, int]]) -> list[Bar]:
    most = max((sum(counts.values()) for counts in found.values()), default=0)
    shown = []
    for channel, counts in found.items():
        number, failed = sum(counts.values()), counts.get(NotificationStatus.FAILED, 0)
        waiting = counts.get(NotificationStatus.PENDING, 0) + counts.get(NotificationStatus.SENDING, 0)
        notes = [f"{failed:,} failed"] * bool(failed) + [f"{waiting:,} waiting"] * bool(waiting)
        tone = "bad" if failed else ""
        note = ", ".join(notes)
        shown.append(Bar(channel_label(channel), number, _share(number, most), tone, note, {"channel": channel}))
    return shown


def _waits(seconds: Sequence[float]) -> list[Bar]:
    bounds = [0.0, *(most for _, most in WAITS)]
    counts = [sum(low <= value < high for value in seconds) for low, high in pairwise(bounds)]
    return bars((name, count, "", None) for (name, _), count in zip(WAITS, counts, strict=True))


def _lasted(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(timedelta(seconds=seconds))
