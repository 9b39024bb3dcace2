"""Times that a cron expression names: five fields, in a time zone. Pure: times are Unix seconds, given by the caller.

Around the change to and from summer time it does what Debian's cron does, as cronsim documents.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_FIELDS = 5
_DAY = 86_400.0
_SOME_DAY = datetime(2027, 1, 1, tzinfo=UTC)  # days of the month and week recur alike from any
_A_MONTH, _A_YEAR, _LONG = timedelta(days=40), timedelta(days=400), timedelta(days=12 * 366)


@dataclass(frozen=True, slots=True)
class Gaps:
    """The longest and the shortest time between two runs, in seconds, summer time apart."""

    longest: float
    shortest: float


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that `valid_expression` has accepted, in a zone that `valid_zone` has."""

    expression: str
    zone: str = "UTC"

    @property
    def gaps(self) -> Gaps:
        return _gaps(self.expression)

    def following(self, wall: float) -> float:
        """The first time after `wall`."""
        return next(CronSim(self.expression, datetime.fromtimestamp(wall, ZoneInfo(self.zone)))).timestamp()


def valid_expression(text: str) -> str:
    """`text` if it names times, else ValueError."""
    fields = text.split()
    what = "write five fields: minute, hour, day of month, month, day of week, such as 15 6 * * 1-5"
    if len(fields) != _FIELDS:
        raise ValueError(f"{text!r} is no cron expression: {what}")
    try:
        next(CronSim(text, _SOME_DAY))
    except CronSimError as error:
        raise ValueError(f"{text!r} is no cron expression ({str(error).lower()}): {what}") from None
    except StopIteration:
        raise ValueError(f"{text!r} never comes: there is no such day") from None
    return " ".join(fields)


def valid_zone(name: str) -> str:
    """`name` if it is a time zone, else ValueError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write one such as UTC or Europe/Berlin") from None
    return name


@lru_cache(maxsize=4096)
def _gaps(expression: str) -> Gaps:
    """From the gaps between the days that match, and those between the times of one day."""
    fields = expression.split()
    parsed = CronSim(expression, _SOME_DAY)
    times = sorted(hour * 3600.0 + minute * 60.0 for hour in parsed.hours for minute in parsed.minutes)
    within = [later - earlier for earlier, later in itertools.pairwise(times)]
    days = _days_between(fields)
    night = times[0] - times[-1]
    return Gaps(max([*within, max(days) + night]), min([*within, min(days) + night]))


def _days_between(fields: list[str]) -> list[float]:
    """Gaps, in seconds, between the days that match; at least one gap."""
    day, month, weekday = fields[2:]
    horizon = _A_YEAR if weekday == "*" else _A_MONTH if (day, month) == ("*", "*") else _LONG
    end = _SOME_DAY + horizon
    found: list[float] = []
    for earlier, later in itertools.pairwise(CronSim(f"0 0 {day} {month} {weekday}", _SOME_DAY)):
        found.append((later - earlier).total_seconds())
        if later > end:
            break
    return found or [366 * _DAY]
