"""What is read of a Kafka message, and what becomes of one that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.kafka_messages import Decoder, Decoding, Event, Message, Tally

DECODING = Decoding(labels=("account", "meta.region"), latest=("rate",), numbers=("amount",), present=("id",))
NO_LABEL = "has no plain value in {}, which is a label"
NAMES = st.sampled_from(["account", "meta", "region", "rate", "amount", "id"])
PLAIN = st.none() | st.booleans() | st.floats() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))


def read(value: Any, decoding: Decoding = DECODING, key: bytes | None = None) -> tuple[list[Event], Tally]:
    content = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    tally = Tally()
    return Decoder(decoding).events(Message(3, 42, 1000.0, key, content), tally), tally


def one(value: Any, decoding: Decoding = DECODING, key: bytes | None = None) -> Event:
    (event,), tally = read(value, decoding, key)
    assert not tally.counts
    return event


def test_labels_values_and_nested_fields_of_a_message() -> None:
    event = one({"account": 17, "meta": {"region": "EU"}, "rate": "0.5", "amount": "12.5", "id": "x"})
    assert event == Event(3, 42, 1000.0, ("17", "EU"), ["0.5"], ["12.5", 1.0])


def test_a_key_with_a_dot_comes_before_a_path() -> None:
    assert one({"account": "a", "meta.region": "flat", "meta": {"region": "deep"}, "rate": 1}).labels == ("a", "flat")


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"<html>", "message_not_json", "is no JSON (Expecting value at character 0)"),
        (b"\xff\xfe", "message_not_json", "is no JSON (no UTF-8 at byte 0)"),
        (b"[" * 100_000, "message_not_json", "is no JSON (nested too deeply)"),
        (b"9" * 5000, "message_not_json", "is no JSON (a number that is too long)"),
        ([1], "message_no_object", "is a list, not an object"),
        ("text", "message_no_object", "is text, not an object"),
        (b"null", "message_no_object", "is null, not an object"),
        (b"x" * 2_000_000, "message_too_large", "2000000 bytes are more than max_message_bytes (1048576)"),
        ({"id": 1, "account": "a"}, "message_field_missing", f"{NO_LABEL.format('meta.region')}; it has: id, account"),
        ({"account": [1], "id": 2}, "message_field_missing", f"{NO_LABEL.format('account')}; it has: account, id"),
        (
            {"account": "a", "meta": {"region": ""}, "x": 1}, "message_field_missing",
            "has no value in rate or amount or id; it has: account, meta.region, x",
        ),
        (None, "tombstone", "no value"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_read_is_told(value: Any, reason: str, words: str) -> None:
    events, tally = read(value)
    assert (events, tally.counts) == ([], {reason: 1})
    assert tally.examples[reason] == f"partition 3, offset 42: {words}"


def test_a_value_that_is_none_is_left_out_and_the_others_count() -> None:
    (event,), tally = read({"account": "a", "meta": {"region": "EU"}, "rate": {"x": 1}, "amount": [2], "id": 1})
    assert (event.latest, event.inputs) == ([None], [None, 1.0])
    assert tally.examples == {"not_plain": "partition 3, offset 42: field rate: an object, taken as missing"}
    assert tally.counts == {"not_plain": 2}


@pytest.mark.parametrize(
    ("value", "unit", "at"),
    [
        (1_764_000_000_500, "ms", 1_764_000_000.5),
        ("1764000000", "s", 1_764_000_000),
        ("2025-11-24T16:00:00Z", "ms", 1_764_000_000),
        ("2025-11-24T18:00:00+02:00", "ms", 1_764_000_000),
        ("2025-11-24 16:00:00", "ms", 1_764_000_000),
    ],
)
def test_event_times(value: object, unit: str, at: float) -> None:
    decoding = Decoding(labels=(), latest=("v",), event_time="when", unit=unit)
    assert one({"v": 1, "when": value}, decoding).at == at


@pytest.mark.parametrize(
    ("value", "words"),
    [("soon", "'soon'"), ("1_0", "'1_0'"), (True, "True"), (float("inf"), "inf"), (None, "missing"), ([1], "[1]")],
)
def test_an_unreadable_event_time(value: object, words: str) -> None:
    events, tally = read({"v": 1, "when": value}, Decoding(labels=(), latest=("v",), event_time="when"))
    assert not events
    assert tally.examples["message_time_unreadable"].endswith(
        f"event_time when is {words}, neither a number nor an ISO 8601 time"
    )


def test_rows_inside_a_message() -> None:
    decoding = Decoding(labels=("a",), latest=("v",), rows="data.items[?v > `1`]")
    events, tally = read({"data": {"items": [{"a": "x", "v": 1}, {"a": "y", "v": 2}, {"a": "z", "v": 3}]}}, decoding)
    assert [event.labels for event in events] == [("y",), ("z",)]
    assert not tally.counts
    assert [event.labels for event in read({"in": {"a": "x", "v": 1}}, Decoding(("a",), ("v",), rows="in"))[0]] == [
        ("x",)
    ]


@pytest.mark.parametrize(("content", "words"), [({}, "has null"), ({"in": [1]}, "has a number"), (["x"], "has null")])
def test_rows_that_are_no_objects(content: object, words: str) -> None:
    events, tally = read(content, Decoding(("a",), ("v",), rows="in"))
    assert not events
    assert tally.examples["message_no_object"].endswith(f"offset 42: rows `in` {words}, not an object")


def test_rows_that_fail_in_one_message() -> None:
    events, tally = read({"in": 1}, Decoding(("a",), ("v",), rows="length(in)"))
    assert not events
    assert "rows `length(in)` cannot be read" in tally.examples["message_no_object"]


def test_a_default_stands_in_for_a_label_so_that_it_is_one_label_set() -> None:
    decoding = Decoding(labels=("region",), latest=("v",), defaults={"region": "unknown"})
    found = [one(row, decoding).labels for row in ({"v": 1}, {"v": 1, "region": ""}, {"v": 1, "region": "unknown"})]
    assert found == [("unknown",)] * 3


def test_key_and_partition_as_labels() -> None:
    decoding = Decoding(labels=("kafka_key", "kafka_partition"), latest=("v",))
    assert one({"v": 1}, decoding, key=b"acc_1").labels == ("acc_1", "3")


def test_labels_that_would_be_shown_alike_are_alike() -> None:
    found, tally = read(b'{"account": "\\ud800\\u0000", "meta": {"region": true}, "id": 1}')
    assert found[0].labels == ("\N{REPLACEMENT CHARACTER}" * 2, "true")
    assert tally.counts == {"label_cleaned": 1}


def test_fields_that_no_message_had_are_known() -> None:
    decoder, tally = Decoder(DECODING), Tally()
    row = {"account": "a", "meta": {"region": "EU"}, "amonut": 1, "rate": 2}
    decoder.events(Message(0, 0, 0.0, None, json.dumps(row).encode()), tally)
    assert decoder.absent == {"amount", "id"}
    assert "amonut" in decoder.example_fields


def test_an_example_that_was_told_makes_room_for_a_new_one() -> None:
    tally, first, second = Tally(), Message(0, 7, 0.0, None, b""), Message(0, 8, 0.0, None, b"")
    tally.add("x", first, "first")
    told = tally.copy()
    tally.add("y", first, "first")
    tally.forget_examples(told)
    tally.add("x", second, "second")
    assert tally.counts == {"x": 2, "y": 1}
    assert tally.examples == {"x": "partition 0, offset 8: second", "y": "partition 0, offset 7: first"}


def test_labels_alone_may_be_enough() -> None:
    assert one({"a": "x"}, Decoding(labels=("a",), latest=("v",), needs_value=False)).labels == ("x",)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_that_a_message_may_hold_stops_the_reading(content: bytes) -> None:
    events, tally = read(content)
    assert events or tally.counts
    for event in events:
        assert all("\0" not in text and text.encode() is not None for text in event.labels)
