"""What we promise, how well it is kept, and how fast the error budget burns."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import CustomVariable
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import VariableOption

from grafana.board import Section, board
from grafana.panels import GREEN, ORANGE, RED, YELLOW, Course, Figure, Piece

UID = "sentinel-slo"

_TIMES = "suffix:x"
_NOT_HELD = 'channel!="sms"'  # quiet hours are part of the delay there


@dataclass(frozen=True, slots=True)
class Promise:
    """`good` and `all`: counters' selectors of events, without a range; bad events are the rest."""

    title: str
    description: str
    objective: float
    good: str
    all: str

    def bad_share(self, window: str) -> str:
        """0 where all was well. Nothing, where nothing happened."""
        return f"1 - {self._sum(self.good, window)} / ({self._sum(self.all, window)} > 0)"

    def _sum(self, counter: str, window: str) -> str:
        first, minus, rest = counter.partition(" - ")
        summed = f"sum(rate({first}[{window}]))"
        return f"({summed} - {self._sum(rest, window)})" if minus else summed


PROMISES = (
    Promise(
        "Alerts are taken in",
        "Requests of Alertmanager that the webhook answered with 2xx, as Alertmanager saw them: one that finds nobody"
        " counts too. It tries again, so a bad request is an alert that comes late.",
        0.999,
        'alertmanager_notification_requests_total{integration="webhook"}'
        ' - alertmanager_notification_requests_failed_total{integration="webhook"}',
        'alertmanager_notification_requests_total{integration="webhook"}',
    ),
    Promise(
        "Messages are fast",
        "Messages that the provider had taken 10 s after the decision, words of a model included. Without sms, where"
        " quiet hours make them wait.",
        0.99,
        f'sentinel_notification_delay_seconds_bucket{{{_NOT_HELD}, le="10.0"}}',
        f"sentinel_notification_delay_seconds_count{{{_NOT_HELD}}}",
    ),
    Promise(
        "Messages arrive",
        "Messages that a provider took, of those that were either taken or given up. Retries do not count.",
        0.999,
        'sentinel_notifications_total{outcome="sent"}',
        'sentinel_notifications_total{outcome=~"sent|failed"}',
    ),
)


def _section(promise: Promise) -> Section:
    allowed = 1 - promise.objective
    burn = [(f"({promise.bad_share(window)}) / {allowed:.4g}", window) for window in ("5m", "1h", "6h")]
    pieces: list[Piece] = [
        Figure(
            f"{promise.title}: kept",
            promise.description,
            f"1 - ({promise.bad_share('$window')})",
            units.PercentUnit,
            limits=[(promise.objective, GREEN)],
            base=RED,
            decimals=3,
            span=4,
        ),
        Figure(
            f"{promise.title}: budget left",
            f"Of the {allowed:.4g} that may go wrong in the window. Below 0 the promise is broken.",
            f"1 - ({promise.bad_share('$window')}) / {allowed:.4g}",
            units.PercentUnit,
            limits=[(0, ORANGE), (0.25, YELLOW), (0.5, GREEN)],
            base=RED,
            span=4,
        ),
        Figure(
            f"{promise.title}: burns now",
            "How many times faster than allowed, in the last hour: 14 spends a budget of 30 days in two days.",
            f"({promise.bad_share('1h')}) / {allowed:.4g}",
            _TIMES,
            limits=[(1, YELLOW), (6, ORANGE), (14, RED)],
            span=4,
        ),
        Course(
            f"{promise.title}: burn rate",
            "How fast the budget is spent, over 5 minutes, an hour and 6 hours. At 1 it lasts for the window; above 14"
            " in an hour, and still in 5 minutes, somebody should look at once; above 6 in 6 hours, today.",
            burn,
            _TIMES,
            limits=[(1, YELLOW), (6, ORANGE), (14, RED)],
            height=6,
        ),
    ]
    return Section(f"{promise.title}: {promise.objective * 100:g}%", pieces)


def dashboard() -> str:
    window = VariableOption(selected=True, text="30d", value="30d")
    return board(
        UID,
        "Sentinel promises",
        "What we promise, how well it is kept, and how fast the error budget burns.",
        [_section(promise) for promise in PROMISES],
        variables=[CustomVariable("window").label("Window").values("30d,7d,1d").current(window)],
        since="now-24h",
    )
