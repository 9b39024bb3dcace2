"""Beside what a real Prometheus recorded: tests/integration/test_rules_backtest.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhook.domain.rule_state import Episode, Hold, episodes, firing, settled, spans

STEP = 10
keys = st.sets(st.sampled_from("abc"))
scenes = st.lists(keys, min_size=1, max_size=40)
holds = st.builds(Hold, wait=st.integers(0, 60), keep=st.integers(0, 60))


def evaluated(scene: list[set[str]]) -> list[tuple[int, set[str]]]:
    return [(index * STEP, found) for index, found in enumerate(scene)]


def state(history: list[Episode], at: int) -> str | None:
    found = [each for each in history if each.state(at)]
    assert len(found) <= 1
    return found[0].state(at) if found else None


@given(scenes, holds)
def test_each_moment_follows_from_what_was_found_until_then(scene: list[set[str]], hold: Hold) -> None:
    """Told again without memory: back to when the condition began to hold, and forth to now."""
    histories = episodes(evaluated(scene), hold)
    for key in "abc":
        assert [state(histories.get(key, []), index * STEP) for index in range(len(scene))] == expected(
            scene, key, hold
        )


def expected(scene: list[set[str]], key: str, hold: Hold) -> list[str | None]:
    said: list[str | None] = []
    began = gone = None
    for index, found in enumerate(scene):
        before = said[-1] if said else None
        now = index * STEP
        if key in found:
            gone = None
            began = now if before is None else began
            assert began is not None
            said.append("firing" if before == "firing" or now - began >= hold.wait else "pending")
        else:
            gone = now if gone is None else gone
            said.append("firing" if before == "firing" and now < gone + hold.keep else None)
    return said


@given(scenes, scenes, scenes, holds)
def test_what_is_settled_goes_on_in_one_way_whatever_was_before(
    before: list[set[str]], known: list[set[str]], after: list[set[str]], hold: Hold
) -> None:
    whole = evaluated([*before, *known, *after])
    cut = whole[len(before) :]
    if not settled(cut[: len(known)], hold):
        return
    long, short = episodes(whole, hold), episodes(cut, hold)
    for now, _ in cut[len(known) :]:
        assert {key: state(long.get(key, []), now) for key in "abc"} == {
            key: state(short.get(key, []), now) for key in "abc"
        }


def test_what_comes_back_in_time_is_not_settled_and_what_stays_away_is() -> None:
    hold = Hold(wait=30, keep=30)
    flickers = evaluated([{"a"}, set(), {"a"}, set(), {"a"}, set()])
    assert not settled(flickers, hold)
    assert settled([*flickers, *[(time, set[str]()) for time in (60, 70, 80)]], hold)
    assert settled(evaluated([{"a"}] * 4), hold)


@given(scenes, holds)
def test_series_do_not_know_each_other(scene: list[set[str]], hold: Hold) -> None:
    together = episodes(evaluated(scene), hold)
    for key in "abc":
        alone = episodes(((now, found & {key}) for now, found in evaluated(scene)), hold)
        assert alone.get(key) == together.get(key)


@given(scenes, holds)
def test_a_longer_wait_never_fires_more(scene: list[set[str]], hold: Hold) -> None:
    longer = Hold(hold.wait + STEP, hold.keep)
    fewer, more = episodes(evaluated(scene), longer), episodes(evaluated(scene), hold)
    end = len(scene) * STEP
    for key, history in fewer.items():
        times = {at for start, stop in firing(history, 0, end) for at in range(start, stop)}
        assert times <= {at for start, stop in firing(more[key], 0, end) for at in range(start, stop)}


def test_a_rule_over_its_limit_has_no_alerts() -> None:
    scene = [{"a"}, {"a"}, {"a", "b"}, {"a"}]
    (first, second) = episodes(evaluated(scene), Hold(limit=1))["a"]
    assert (first, second) == (Episode(0, 0, 20), Episode(30, 30, None))


def test_what_fires_is_cut_to_the_period() -> None:
    history = [Episode(0, 10, 40), Episode(50, None, 60), Episode(70, 80, None)]
    assert firing(history, 20, 100) == [(20, 40), (80, 100)]


def test_recorded_samples_become_spans() -> None:
    assert spans([0, 10, 20, 50, 90], 10, 95) == [(0, 30), (50, 60), (90, 95)]
