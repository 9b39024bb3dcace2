from __future__ import annotations

import pytest

from exporter.mapping.spec import DataWarning
from exporter.scheduler import Failure, SourceState
from exporter.status_page import span, status_page


def page(*states: SourceState) -> str:
    types = {state.name: "database" for state in states}
    return status_page(states, types, wall=1.8e9, monotonic=1000, version="1.2.3")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (1, "1 s"), (59.6, "1 m"), (200, "3 m 20 s"), (3600, "1 h"), (18_720, "5 h 12 m"),
     (183_600, "2 d 3 h")],
)  # fmt: skip
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (SourceState("s", 30), ">waiting<"),
        (SourceState("s", 30, running_since=999), ">first run<"),
        (SourceState("s", 30, attempts=1), ">up<"),
        (SourceState("s", 30, attempts=2, failures=1), ">down<"),
        (SourceState("s", 30, attempts=2, failures=1, series=5), ">down, serving last good<"),
        (SourceState("s", 30, attempts=2, failures=1, running_since=900, overdue=True), ">hangs<"),
    ],
)
def test_what_a_source_does(state: SourceState, word: str) -> None:
    assert word in page(state)


def test_a_row_says_it_all() -> None:
    failure = Failure(1.8e9 - 90, "denied", 'no <b>entry</b> & "so"')
    state = SourceState(
        "payments<", 30, attempts=3, next_run=1020, last_run_at=1.8e9 - 5, fresh_since=995, duration=0.5,
        rows=1234, series=5678, last_failure=failure,
    )  # fmt: skip
    text = page(state)
    for part in ("payments&lt;", "every 30 s", ">1,234<", ">5,678<", ">5 s<", "in 20 s", "took 0.50 s", "07:59:55"):
        assert part in text
    assert "no &lt;b&gt;entry&lt;/b&gt; &amp; &quot;so&quot;" in text
    assert "denied, 1 m 30 s ago" in text
    assert "1 source, all well, 5,678 series" in text


def test_the_head_counts_failing_sources() -> None:
    text = page(SourceState("a", 30, attempts=1, failures=1), SourceState("b", 30, attempts=1, series=3))
    assert "2 sources, 1 failing, 3 series" in text


def test_what_was_left_out_is_named() -> None:
    lost = DataWarning("missing_field", 1, "sentinel_b is left out: the result has no field '<b>'", metric="sentinel_b")
    text = page(SourceState("a", 30, attempts=1, last_warnings=(lost,)), SourceState("b", 30, attempts=1, failures=1))
    assert "sentinel_b is left out: the result has no field &#x27;&lt;b&gt;&#x27;" in text
    assert "warning missing_field, 1 time<" in text
    assert ">up, with warnings<" in text
    assert "2 sources, 1 failing, 1 with warnings, 0 series" in text
    assert "and 5 more warnings" in page(SourceState("a", 30, attempts=1, last_warnings=(lost,) * 15))
