from __future__ import annotations

import base64
import hashlib
import re

import pytest

from exporter.mapping.spec import DataWarning
from exporter.scheduler import Failure, SourceState
from exporter.status_assets import CONTENT_SECURITY_POLICY
from exporter.status_page import Filter, span, status_page


def page(*states: SourceState, text: str = "", state: str = "") -> str:
    types = {each.name: "database" for each in states}
    shown = Filter(text, state)
    return status_page(states, types, wall=1.8e9, monotonic=1000, version="1.2.3", shown=shown)


def listed(text: str) -> list[str]:
    """Names of the sources in the order of the page."""
    return re.findall(r"<strong>(.*?)</strong>", text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "123 ms"), (0.0002, "1 ms"), (0, "0 s"), (0.9999, "1 s"),
     (1, "1 s"), (59.6, "1 m"), (200, "3 m 20 s"), (3600, "1 h"), (18_720, "5 h 12 m"),
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
        (SourceState("s", 30, attempts=2, failures=1, stopped=True), ">stopped<"),
        (SourceState("s", 30, warm=True, series=5), ">from before<"),
        (SourceState("s", 30, cron="*/5 * * * *"), ">at */5 * * * *<"),
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
    for part in ("payments&lt;", "every 30 s", ">1,234<", ">5,678<", ">5 s<", "in 20 s", "took 500 ms", "07:59:55"):
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


DOWN = SourceState("ledger", 30, attempts=2, failures=2, last_failure=Failure(1.8e9 - 9, "denied", "no entry"))
WARNED = SourceState("cards", 30, attempts=1, last_warnings=(DataWarning("missing_field", 1, "no field b"),))
WELL = SourceState("payments", 30, attempts=1, series=7)
RECOVERED = SourceState("refunds", 30, attempts=3, last_failure=Failure(1.8e9 - 90, "timeout", "too late"))
ALL = (WELL, SourceState("new", 30), WARNED, RECOVERED, DOWN)


def test_what_fails_stands_first() -> None:
    assert listed(page(*ALL)) == ["ledger", "cards", "new", "payments", "refunds"]
    assert page(*ALL).startswith('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>1 failing · ')


@pytest.mark.parametrize(
    ("text", "state", "names"),
    [
        ("", "failing", ["ledger"]),
        ("", "up", ["payments", "refunds"]),
        ("PAY", "", ["payments"]),
        ("entry", "", ["ledger"]),
        ("denied database", "", ["ledger"]),
        ("timeout", "", []),
        ("pay", "failing", []),
        ("", "nonsense", ["ledger", "cards", "new", "payments", "refunds"]),
    ],
)
def test_sources_are_searched_and_filtered(text: str, state: str, names: list[str]) -> None:
    shown = page(*ALL, text=text, state=state)
    assert listed(shown) == names
    assert ("No source matches" in shown) is (not names)
    assert "5 sources, 1 failing, 1 with warnings, 7 series" in shown


def test_a_search_stays_in_the_links_and_the_form_and_is_escaped() -> None:
    shown = page(*ALL, text='"><b>x', state="failing")
    assert "<b>x" not in shown
    assert 'value="&quot;&gt;&lt;b&gt;x"' in shown
    assert 'href="/?q=%22%3E%3Cb%3Ex&amp;state=up"' in shown
    assert '<input type="hidden" name="state" value="failing">' in shown


def test_a_failure_of_the_past_says_that_it_is_over() -> None:
    assert "timeout, 1 m 30 s ago, recovered" in page(RECOVERED)
    assert "denied, 9 s ago<" in page(DOWN)


def test_long_errors_are_folded_and_thousands_of_sources_are_cut() -> None:
    failure = Failure(1.8e9, "bad_answer", "word " * 100)
    assert '<details id="error-s"><summary>word ' in page(
        SourceState("s", 30, attempts=1, failures=1, last_failure=failure)
    )
    many = page(*(SourceState(f"s{number}", 30) for number in range(1203)))
    assert len(listed(many)) == 1000
    assert "and 203 more sources: search for them" in many


def test_the_policy_allows_what_is_on_the_page_and_nothing_else() -> None:
    text = page(*ALL)
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert " style=" not in text
    assert not re.search(r"\son\w+=", text.partition("<script>")[0])


def test_the_time_of_a_run_long_ago_has_its_date() -> None:
    assert "2027-01-14 08:00" in page(SourceState("s", 30, attempts=1, last_run_at=1.8e9 - 86_400))
