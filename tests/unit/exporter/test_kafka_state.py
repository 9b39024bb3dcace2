"""What a Kafka source keeps, against a plain list of all events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.kafka_messages import Event, Tally
from exporter.collectors.kafka_state import LabelSets, StateSpec
from exporter.mapping.conversion import Conversion

NOW = 1_764_000_000.0
WINDOWED = StateSpec(
    labels=("account",),
    columns={
        "rate": ("latest", "rate"),
        "sum(amount)": ("sum", "amount"),
        "avg(amount)": ("avg", "amount"),
        "max(amount)": ("max", "amount"),
        "min(amount)": ("min", "amount"),
        "count(id)": ("count", "id"),
    },
    expire_after=120,
    window=60,
)
LATEST = StateSpec(labels=("account",), columns={"rate": ("latest", "rate")}, expire_after=60)


def event(
    account: str = "a", at: float = NOW, *, rate: Any = None, amount: float | None = None, partition: int = 0
) -> Event:
    return Event(partition, 0, at, (account,), [rate], [amount, 1.0])


def latest(account: str, rate: Any, at: float = NOW, partition: int = 0) -> Event:
    return Event(partition, 0, at, (account,), [rate], [])


def rows(state: LabelSets, now: float = NOW) -> dict[str, dict[str, Any]]:
    return {row.pop("account"): row for row in state.frame(now).to_dicts()}


def filled(spec: StateSpec, events: Sequence[Event], now: float = NOW) -> tuple[LabelSets, Tally]:
    state, tally = LabelSets(spec), Tally()
    state.add(events, now, tally)
    return state, tally


events = st.lists(
    st.builds(
        event,
        st.sampled_from("abc"),
        st.integers(-150, 0).map(lambda ago: NOW + ago),
        rate=st.none() | st.integers(0, 9),
        amount=st.none() | st.integers(-1000, 1000).map(float),
        partition=st.integers(0, 2),
    ),
    max_size=60,
)


def expected(events: Sequence[Event], now: float) -> dict[str, dict[str, Any]]:
    """By definition: the window has 60 whole steps of 1 s, the last of them the one that `now` is in."""
    found: dict[str, dict[str, Any]] = {}
    alive = [each for each in events if each.at > now - WINDOWED.expire_after]
    for (account,) in {each.labels for each in alive}:
        mine = [each for each in alive if each.labels == (account,)]
        inside = [each for each in mine if each.at >= now // 1 - 59]
        amounts = [each.inputs[0] for each in inside if each.inputs[0] is not None]
        rates = [(each.at, each.latest[0]) for each in mine if each.latest[0] is not None]
        found[account] = {
            "rate": {rate for at, rate in rates if at == max(rates)[0]} or {None},
            "sum(amount)": sum(amounts),
            "avg(amount)": pytest.approx(sum(amounts) / len(amounts)) if amounts else None,
            "max(amount)": max(amounts, default=None),
            "min(amount)": min(amounts, default=None),
            "count(id)": len(inside),
        }
    return found


@given(events, st.lists(st.integers(0, 60), max_size=4), st.sets(st.integers(0, 2)), st.integers(0, 70))
def test_the_state_is_what_the_recent_events_add_up_to(
    events: list[Event], cuts: list[int], revoked: set[int], later: int
) -> None:
    state, tally = LabelSets(WINDOWED), Tally()
    edges = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(edges):
        state.add(events[start:end], NOW, tally)
    state.forget(revoked, NOW)
    kept = [each for each in events if each.partition not in revoked and each.at > NOW - WINDOWED.expire_after]
    wanted = expected(kept, NOW + later)
    got = rows(state, NOW + later)
    for account, row in got.items():
        assert row.pop("rate") in wanted[account].pop("rate")
    assert got == wanted


@given(events, st.randoms(use_true_random=False))
def test_neither_order_nor_a_second_start_changes_a_windowed_value(events: list[Event], random: Any) -> None:
    shuffled = random.sample(events, len(events))
    spec = replace(WINDOWED, columns={name: of for name, of in WINDOWED.columns.items() if of[0] != "latest"})
    events, shuffled = ([each._replace(latest=[]) for each in some] for some in (events, shuffled))
    first, again = rows(filled(spec, events)[0]), rows(filled(spec, shuffled)[0])
    assert first == {account: pytest.approx(row) for account, row in again.items()}


def test_many_small_batches_add_up() -> None:
    state = LabelSets(WINDOWED)
    for _ in range(100):
        state.add([event(amount=1.5, partition=0), event(amount=0.5, partition=1)], NOW, Tally())
    row = rows(state)["a"]
    assert (row["sum(amount)"], row["avg(amount)"], row["max(amount)"], row["count(id)"]) == (200, 1, 1.5, 200)


def test_a_window_without_events_is_0_until_the_label_set_expires() -> None:
    state, _ = filled(WINDOWED, [event(amount=3.0, rate=7)])
    assert rows(state, NOW + 119)["a"] == {
        "rate": 7, "sum(amount)": 0, "avg(amount)": None, "max(amount)": None, "min(amount)": None, "count(id)": 0,
    }  # fmt: skip
    assert rows(state, NOW + 120) == {}
    assert len(state) == 0


def test_a_latest_value_expires_by_itself_while_its_label_set_lives_on() -> None:
    state, _ = filled(LATEST, [latest("a", 1, NOW - 50), latest("b", 2, NOW - 50)])
    state.add([latest("a", None, NOW)], NOW, Tally())
    assert rows(state) == {"a": {"rate": 1}, "b": {"rate": 2}}
    assert rows(state, NOW + 30) == {"a": {"rate": None}}


def test_the_newest_value_counts_not_the_one_that_was_read_last() -> None:
    state, _ = filled(LATEST, [latest("a", 9, NOW, 1), latest("a", 1, NOW - 1, 2), latest("b", 1), latest("b", 2)])
    assert rows(state) == {"a": {"rate": 9}, "b": {"rate": 2}}


def test_late_and_early_events_are_left_out_and_told() -> None:
    late, later, early = event(at=NOW - 61), event("b", at=NOW - 121), event("c", at=NOW + 61)
    state, tally = filled(WINDOWED, [late, later, early, event("d", at=NOW + 59)])
    assert {account: row["count(id)"] for account, row in rows(state).items()} == {"a": 0, "d": 1}
    assert tally.counts == {"message_late": 2, "message_ahead": 1}
    assert tally.examples["message_ahead"] == "partition 0, offset 0: its event lies 61 s ahead of the clock here"


def test_no_more_label_sets_than_allowed_are_kept_until_one_expires() -> None:
    spec = replace(LATEST, max_label_sets=2)
    state, tally = filled(spec, [latest("a", 1, NOW - 30), latest("b", 1), latest("c", 1), latest("a", 2)])
    assert (set(rows(state)), tally.counts) == ({"a", "b"}, {"rows_truncated": 1})
    assert state.over_budget(NOW + 59)
    assert not state.over_budget(NOW + 60)
    state.add([latest("c", 1, NOW + 61)], NOW + 61, tally)
    assert set(rows(state, NOW + 61)) == {"c"}


def test_label_sets_of_several_partitions_are_counted_and_parted_exactly() -> None:
    state, _ = filled(
        WINDOWED, [event(amount=1.0, partition=0), event(amount=2.0, partition=1), event("b", partition=1)]
    )
    assert (rows(state)["a"]["sum(amount)"], state.shared) == (3, 1)
    state.forget([1], NOW)
    assert {account: row["sum(amount)"] for account, row in rows(state).items()} == {"a": 1}
    assert state.shared == 0


def test_without_labels_there_is_one_row() -> None:
    spec = replace(LATEST, labels=())
    state, _ = filled(spec, [Event(0, 0, NOW, (), [5], [])])
    assert state.frame(NOW).to_dicts() == [{"rate": 5}]


@pytest.mark.parametrize(
    ("how", "values", "total"),
    [
        (Conversion(), [True, "true", " 1e1 ", 2, 0.5], 14.5),
        (Conversion(), [1, 2.5, None, float("nan")], 3.5),
        (Conversion(), ["inf", 1], float("inf")),
        (Conversion("bool"), ["yes", "no", True, 1], 3),
        (Conversion("duration", "ms"), [500, "2s", "1.5"], 2.5015),
        (Conversion(words={"failed": 1, "ok": 0}), ["failed", "ok", 4], 5),
    ],
)
def test_an_aggregate_reads_numbers_as_the_mapping_does(how: Conversion, values: list[Any], total: float) -> None:
    spec = StateSpec(("a",), {"sum(x as y)": ("sum", "x")}, 60, conversions={"sum(x as y)": how}, window=60)
    state, tally = filled(spec, [Event(0, 0, NOW, ("a",), [], [value]) for value in values])
    assert state.frame(NOW).to_dicts() == [{"a": "a", "sum(x as y)": pytest.approx(total)}]
    assert not tally.counts


def test_a_number_that_is_too_large_is_none() -> None:
    spec = StateSpec((), {"sum(x)": ("sum", "x")}, 60, window=60)
    state, tally = filled(spec, [Event(0, n, NOW, (), [], [value]) for n, value in enumerate([10**400, 1])])
    assert state.frame(NOW).to_dicts() == [{"sum(x)": 1}]
    assert tally.counts == {"not_a_number": 1}


def test_one_field_read_in_two_ways_and_what_is_no_number() -> None:
    columns: dict[str, Any] = {"sum(x)": ("sum", "x"), "max(x as ms)": ("max", "x"), "count(x)": ("count", "x")}
    spec = StateSpec((), columns, 60, conversions={"max(x as ms)": Conversion("duration", "ms")}, window=60)
    state, tally = filled(spec, [Event(0, n, NOW, (), [], [value, 1.0]) for n, value in enumerate([500, "2s", "much"])])
    assert state.frame(NOW).to_dicts() == [{"sum(x)": 500, "max(x as ms)": 2, "count(x)": 3}]
    assert tally.counts == {"not_a_number": 3}
    assert tally.examples == {"not_a_number": "partition 0, offset 1: field x: '2s' is no number"}
