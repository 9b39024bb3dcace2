"""A backtest beside what a real Prometheus recorded for the same data, sample by sample."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
from click.testing import CliRunner
from scenario import Live, lived_through, shown

from webhook.adapters.prometheus_api import Points, PrometheusApi, TooMuchError
from webhook.domain.rule_state import Episode, Hold, episodes
from webhook.rules.backtest import BacktestedRule, Backtester, Period
from webhook.rules.document import Rule, parse, read
from webhook.rules_commands import rules as rules_command

STEP, STEPS = 250, 60
RULES = """
groups:
  - name: tested
    interval: 500ms
    rules:
      - {record: 'test:evaluated', expr: vector(1)}
      - {record: 'test:high:max', expr: max by (account_id) (sentinel_block_rate) > 0.5}
      - {alert: AtOnce, expr: max by (account_id) (sentinel_block_rate) > 0.5, labels: {severity: P3}}
      - {alert: Waits, expr: max by (account_id) (sentinel_block_rate) > 0.5, for: 1500ms, labels: {severity: P2}}
      - {alert: Kept, expr: max by (account_id) (sentinel_block_rate) > 0.5, for: 500ms, keep_firing_for: 2s}
      - {alert: OfRecorded, expr: 'test:high:max > 0.6', for: 1s}
      - {alert: Averaged, expr: 'avg_over_time(max by (account_id) (sentinel_block_rate)[2s:500ms]) > 0.5', for: 1s}
"""


def scene(seed: int = 7) -> dict[str, list[float | None]]:
    drawn = random.Random(seed)
    high, low = 0.9, 0.1

    def blocks(*lengths: int) -> list[float | None]:
        """High first, then low, and so on."""
        parts = (repeat(high if index % 2 == 0 else low, length) for index, length in enumerate(lengths))
        return [*chain(*parts), *repeat(low, STEPS)][:STEPS]

    gap: list[float | None] = [*repeat(high, 24), *repeat(None, 14), *repeat(high, STEPS)]
    return {
        "steady": [high] * STEPS,
        "never": [low] * STEPS,
        "long": blocks(24, 8, 16),
        "restarts": blocks(4, 2, 4, 3, 7, 2, 12, 4, 3, 3),
        "gap": gap[:STEPS],
        "one_missing": [None if index == 40 else high for index in range(STEPS)],
        "ends": [*repeat(high, 35), *repeat(None, STEPS)][:STEPS],
        "flickers": blocks(12, *([4, 2] * 7)),  # each time too short to fire, and back before it ends
        "drawn": [drawn.choice((high, high, low, 0.55, None)) for _ in range(STEPS)],
        "drawn_slowly": [each for _ in range(STEPS // 5) for each in [drawn.choice((high, low, None))] * 5],
    }


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    def text(begin: int) -> str:
        return shown("sentinel_block_rate", scene(), begin, STEP)

    folder = tmp_path_factory.mktemp("backtest")
    with lived_through(folder, RULES, text, STEP * STEPS, "--query.lookback-delta=700ms") as lived:
        yield lived


def recorded(live: Live, alert: str) -> dict[str, dict[int, str]]:
    """State of each account at each evaluation, as Prometheus wrote it down."""
    found: dict[str, dict[int, str]] = {}
    reach = (live.end - live.begin) // 1000
    for labels, points in live.api.samples(f'ALERTS{{alertname="{alert}"}}[{reach}s]', live.end):
        states = found.setdefault(labels["account_id"], {})
        states |= {time: labels["alertstate"] for time, _ in points if live.begin <= time <= live.evaluated[-1]}
    return found


def at(history: list[Episode] | tuple[Episode, ...], times: list[int]) -> dict[int, str]:
    states = {time: [state for each in history if (state := each.state(time))] for time in times}
    assert all(len(each) <= 1 for each in states.values())
    return {time: each[0] for time, each in states.items() if each}


def alerts(live: Live) -> dict[str, Rule]:
    return {rule.name.text: rule for rule in read(live.rules).rules if rule.is_alert}


def until_a_miss(live: Live) -> list[int]:
    """Evaluations before the first that a busy machine made Prometheus leave out."""
    times = live.evaluated
    gaps = (index for index in range(1, len(times)) if times[index] - times[index - 1] != 500)
    return times[: next(gaps, len(times))]


def without_a_miss(live: Live) -> list[int]:
    """The longest stretch of evaluations in which none was left out."""
    stretches: list[list[int]] = [[]]
    for time in live.evaluated:
        if stretches[-1] and time - stretches[-1][-1] != 500:
            stretches.append([])
        stretches[-1].append(time)
    return max(stretches, key=len)


@pytest.mark.parametrize("alert", ["AtOnce", "Waits", "Kept", "OfRecorded", "Averaged"])
def test_the_state_machine_says_what_prometheus_recorded(live: Live, alert: str) -> None:
    """At the very times at which Prometheus evaluated, whichever those were."""
    rule = alerts(live)[alert]
    found: dict[int, set[str]] = {time: set() for time in live.evaluated}
    for time in live.evaluated:
        found[time] = {labels["account_id"] for labels, _ in live.api.samples(rule.expr.text, time)}
    hold = Hold(round(rule.duration("for") * 1000), round(rule.duration("keep_firing_for") * 1000))
    ours = episodes(found.items(), hold)
    said = {account: at(history, live.evaluated) for account, history in ours.items()}
    told = recorded(live, alert)
    assert {state for states in told.values() for state in states.values()} >= {"firing"}
    assert said == told


@pytest.mark.parametrize("alert", ["AtOnce", "Waits", "Kept", "OfRecorded", "Averaged"])
def test_a_backtest_says_what_prometheus_recorded(live: Live, alert: str) -> None:
    times = until_a_miss(live)
    tested = backtest(live, Period(live.begin, times[-1]))[alert]
    assert not tested.problem
    assert set(times) <= set(range(tested.first, live.end, tested.interval)), "evaluations are where the hash says"
    said = {dict(each.labels)["account_id"]: at(tuple(each.history), times) for each in tested.outcomes}
    told = {
        account: {t: state for t, state in states.items() if t in times}
        for account, states in recorded(live, alert).items()
    }
    assert {name: states for name, states in said.items() if states} == {name: s for name, s in told.items() if s}
    for outcome in tested.outcomes:
        assert list(outcome.fired) == list(outcome.now), "what the same rule did is what it would have done"


def test_what_is_held_since_long_before_the_period_fires_in_it(live: Live) -> None:
    """An alert that fired once, and whose series comes back within keep_firing_for, for less than `for` each time."""
    times = until_a_miss(live)
    told = recorded(live, "Kept")
    assert "firing" in told["flickers"].values(), "the scene is what it is meant to be"
    held = [time for time in times[len(times) // 2 :] if told["flickers"].get(time) == "firing"]
    for start in (*held[:1], *held[len(held) // 2 :][:1]):
        tested = backtest(live, Period(start, times[-1]))["Kept"]
        seen = [time for time in times if time >= tested.first]
        assert (tested.notes, seen[:1]) == ([], [start])
        said = {dict(each.labels)["account_id"]: at(tuple(each.history), seen) for each in tested.outcomes}
        wanted = {account: {t: told[account][t] for t in seen if t in told[account]} for account in told}
        assert {name: states for name, states in said.items() if states} == {n: s for n, s in wanted.items() if s}


def backtest(live: Live, period: Period, rules: str | None = None, **options: int) -> dict[str, BacktestedRule]:
    tester = Backtester(live.api, period, progress=lambda *_: None, **options)
    file = read(live.rules) if rules is None else parse(rules, str(live.rules))
    return {tested.rule.name.text: tested for tested in tester.run(file).tested}


def test_the_past_of_which_prometheus_has_no_alerts(live: Live) -> None:
    """What a rule under another name would have done; recording rules that nobody recorded are computed."""
    rules = RULES.replace("test:high:max", "test:other:max").replace("OfRecorded", "OfComputed")
    rules += "      - {alert: Loops, expr: 'test:loop:a > 1'}\n      - {record: 'test:loop:a', expr: 'test:loop:b'}\n"
    rules += "      - {record: 'test:loop:b', expr: 'test:loop:a'}\n"
    rules += "      - {alert: Matches, expr: 'test:loop:b{a=\"b\"} > 1'}\n"
    times = without_a_miss(live)
    period = Period(times[6], times[-1])  # what is held since before it is of the same stretch
    ours, old = backtest(live, period, rules), backtest(live, period)
    computed = {each.labels: each.history for each in ours["OfComputed"].outcomes}
    assert computed == {each.labels: each.history for each in old["OfRecorded"].outcomes}
    assert not any(each.now for each in ours["OfComputed"].outcomes)
    assert (old["OfRecorded"].notes, len(ours["OfComputed"].notes)) == ([], 1)
    assert "test:loop:a → test:loop:b → test:loop:a" in ours["Loops"].problem
    assert "label matchers" in ours["Matches"].problem


def test_answers_that_are_too_large_are_asked_for_in_parts(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    period = Period(live.begin, live.end)
    whole = backtest(live, period)["Waits"].outcomes
    asked, ask = [], PrometheusApi.range

    def small(self: PrometheusApi, query: str, start: int, end: int, step: int) -> list[tuple[dict[str, str], Points]]:
        asked.append((start, end))
        if (end - start) // step >= 20:
            raise TooMuchError("query processing would load too many samples into memory in query execution")
        return ask(self, query, start, end, step)

    monkeypatch.setattr(PrometheusApi, "range", small)
    in_parts = backtest(live, period)["Waits"].outcomes
    assert {(e.labels, tuple(e.history), tuple(e.fired)) for e in in_parts} == {
        (e.labels, tuple(e.history), tuple(e.fired)) for e in whole
    }
    assert len(asked) > len(alerts(live)) * 2
    monkeypatch.setattr(PrometheusApi, "range", lambda *_: (_ for _ in ()).throw(TooMuchError("too many samples")))
    assert "--step" in backtest(live, period)["Waits"].problem


def test_prometheus_own_limits_are_known_by_their_words(live: Live) -> None:
    with pytest.raises(TooMuchError, match="11,000"):
        live.api.range("vector(1)", live.begin - 20_000_000, live.end, 1000)


def test_what_prometheus_cannot_evaluate_is_the_problem_of_that_rule(live: Live) -> None:
    rules = """
groups:
  - name: other
    rules:
      - {alert: Many, expr: sentinel_block_rate / on (account_id) sentinel_block_rate > 0}
      - {alert: AtTheEnd, expr: 'sentinel_block_rate @ end() > 0'}
      - {alert: Valued, expr: sentinel_block_rate > 0, labels: {value: '{{ $value }}'}}
      - {alert: Fine, expr: max by (account_id) (sentinel_block_rate) > 0}
"""
    found = backtest(live, Period(live.begin, live.end), rules)
    assert "many-to-many" in found["Many"].problem
    assert "@ start()" in found["AtTheEnd"].problem
    assert "every value would be another alert" in found["Valued"].problem
    assert (found["Fine"].problem, len(found["Fine"].outcomes)) == ("", 10)


def test_on_the_command_line(live: Live) -> None:
    command = ["backtest", str(live.rules), "--days", "0.001", "--prometheus", live.api.url]
    shown = CliRunner().invoke(rules_command, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    waits = next(each for each in document["rules"] if each["alert"] == "Waits")
    steady = next(each for each in waits["series"] if each["labels"] == {"account_id": "steady"})
    assert steady["fired"] >= 1
    assert steady["episodes"][0]["firing"] > steady["episodes"][0]["pending"]
    assert steady["now_fired"] >= 1
    assert "Waits: asked" in shown.stderr
    table = CliRunner().invoke(rules_command, command).stdout
    assert "Waits (P2)" in table
    assert "steady" in table


def test_a_prometheus_that_is_away(free_port: Callable[[], int], tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text("groups: [{name: a, rules: [{alert: A, expr: up == 0}]}]")
    done = CliRunner().invoke(rules_command, ["backtest", str(file), "--prometheus", f"http://127.0.0.1:{free_port()}"])
    assert done.exit_code == 1
    assert "cannot be reached" in done.stderr
