"""What we promise, how well it is kept, how fast the error budget burns: as `prometheus/rules/slo.yml` records it."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.models import units

from grafana.board import Section, board
from grafana.panels import GREEN, ORANGE, RED, YELLOW, Course, Figure, Piece

UID = "sentinel-slo"

_TIMES = "suffix:x"
_WINDOW = "30d"


@dataclass(frozen=True, slots=True)
class Promise:
    """`id`: its label `promise` in the rules, which hold the same objective."""

    id: str
    title: str
    description: str
    objective: float

    def burn(self, window: str) -> str:
        """How many times faster than allowed. Nothing, where nothing happened."""
        return f'promise:sentinel_slo_burn:ratio{window}{{promise="{self.id}"}}'


PROMISES = (
    Promise(
        "taken-in",
        "Alerts are taken in",
        "Deliveries of Alertmanager that the webhook took in, as Alertmanager saw them. It tries each for a while, and"
        " what it gives up comes with its next repeat, so that is an alert that comes late.",
        0.999,
    ),
    Promise(
        "fast",
        "Messages are fast",
        "Messages that the provider had taken 10 s after the decision, words of a model included. Without sms, where"
        " quiet hours make them wait.",
        0.99,
    ),
    Promise(
        "arrive",
        "Messages arrive",
        "Messages that a provider took, of those that were either taken or given up. Retries do not count.",
        0.999,
    ),
)


def _section(promise: Promise) -> Section:
    pieces: list[Piece] = [*_figures(promise), _course(promise)]
    return Section(f"{promise.title}: {promise.objective * 100:g}%", pieces)


def _figures(promise: Promise) -> list[Piece]:
    allowed = f"{1 - promise.objective:.4g}"
    return [
        Figure(
            f"{promise.title}: kept",
            promise.description,
            f"1 - {allowed} * {promise.burn(_WINDOW)}",
            units.PercentUnit,
            limits=[(promise.objective, GREEN)],
            base=RED,
            decimals=3,
            span=4,
        ),
        Figure(
            f"{promise.title}: budget left",
            f"Of the {allowed} that may go wrong in {_WINDOW}. Below 0 the promise is broken.",
            f"1 - {promise.burn(_WINDOW)}",
            units.PercentUnit,
            limits=[(0, ORANGE), (0.25, YELLOW), (0.5, GREEN)],
            base=RED,
            span=4,
        ),
        Figure(
            f"{promise.title}: burns now",
            "How many times faster than allowed, in the last hour: 14.4 spends a budget of 30 days in two days.",
            promise.burn("1h"),
            _TIMES,
            limits=[(1, YELLOW), (6, ORANGE), (14.4, RED)],
            span=4,
        ),
    ]


def _course(promise: Promise) -> Piece:
    return Course(
        f"{promise.title}: burn rate",
        "How fast the budget is spent, over 5 minutes, an hour and 6 hours. At 1 it lasts for the window; above 14.4"
        " in an hour, and still in 5 minutes, somebody is called; above 6 in 6 hours, and still in one, somebody looks"
        " today.",
        [(promise.burn(window), window) for window in ("5m", "1h", "6h")],
        _TIMES,
        limits=[(1, YELLOW), (6, ORANGE), (14.4, RED)],
        height=6,
    )


def dashboard() -> str:
    return board(
        UID,
        "Sentinel promises",
        f"What we promise, how well it is kept over {_WINDOW}, and how fast the error budget burns.",
        [_section(promise) for promise in PROMISES],
        since="now-24h",
    )
