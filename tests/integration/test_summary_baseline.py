"""What was before an alert, and what is usual: given to models, and true to tell."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from fakes_llm import good
from notes import make_note
from summaries_parts import MINUTE, Desk, Facts

from webhook.domain.circumstances import Circumstances, EarlierAlerts
from webhook.domain.severity import Severity
from webhook.pipeline.surroundings import Surroundings
from webhook.ports import HistoryUnavailable


class Past:
    """Prometheus: the same values each day, or no answer ever."""

    def __init__(self, hold: threading.Event | None = None) -> None:
        self.hold, self.asked = hold, list[tuple[datetime, datetime, int]]()

    def past_days(
        self, metric: str, _: str, start: datetime, end: datetime, _step: timedelta, *, days: int
    ) -> dict[int, list[tuple[datetime, float]]]:
        self.asked.append((start, end, days))
        if self.hold is not None:
            self.hold.wait()
        if metric == "transaction_count":
            raise HistoryUnavailable("no such metric")
        known = 2 if metric == "failed_auth_rate" else 3
        return {day: [(start, value)] for day, value in enumerate((0.031, 0.029, 0.9)[:known], 1)}


def test_history_and_baseline_are_given_and_may_be_told() -> None:
    past = Past()
    known = Circumstances(earlier=EarlierAlerts(4, datetime(2025, 11, 3, 9, 5, tzinfo=UTC), Severity.P2, "resolved"))
    with Desk(facts=Facts(known), history=past) as desk:
        desk.stub.answers = [good(summary="35 % blocked, usually 3.1 %; 4 alerts in 30 days, the last on 2025-11-03.")]
        assert desk.words.summarise(make_note(), MINUTE).source == "stub-1"
        user = desk.stub.requests[0]["messages"][1]["content"]
        assert '"usual_at_this_time_of_day": {"Block rate": {"value": 0.031' in user
        assert '"earlier_alerts": 4' in user
        began = make_note().first_triggered_at
        assert past.asked[0] == (began, began, 7)
        assert "Failed authorisations" not in user.partition("usual_at_this_time_of_day")[2], "two days are no habit"


def test_a_prometheus_that_hangs_costs_the_baseline_alone() -> None:
    never = threading.Event()
    around = Surroundings(Facts(Circumstances(language="de")), Past(never))
    (known,) = around.of([make_note()], 0.1)
    assert (known.language, known.baseline) == ("de", {})
    never.set()
    around.close()
