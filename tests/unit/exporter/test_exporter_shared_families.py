"""Two sources that feed one family: no series is served of both, and what is left out is told and comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic

import hypothesis
import hypothesis.strategies as st
import polars as pl
import pytest

from exporter.collectors.base import Collection, Collector
from exporter.config import parse
from exporter.exposition import Block, Exposition, Family
from exporter.job import SourceJob
from exporter.mapping.labels import escape
from exporter.mapping.series_keys import common_series, series_hashes
from exporter.mapping.spec import DataWarning
from exporter.serving import Serving
from exporter.snapshot import Snapshot as Kept
from exporter.snapshot import decode, encode

SHARED = Family("shared", "gauge", "")
SOURCE = """
- name: {name}
  type: database
  connection: {{driver: sqlite, database: x.db}}
  query: SELECT 1
  metrics:
    - {{source_field: v, prometheus_name: shared, labels: [{labels}]}}
    - {{source_field: v, prometheus_name: {name}_alone, labels: [a]}}
"""


def exposition() -> Exposition:
    return Exposition([SHARED, Family("alone", "gauge", ""), SHARED, SHARED], ["one", "two", "three"])


def text(served: Exposition) -> str:
    return b"".join(served.page().parts(gzip=False)).decode()


def test_a_series_is_served_of_the_source_that_had_it_first_and_the_other_is_told() -> None:
    served = exposition()
    assert served.publish("two", {"shared": Block.of(b'shared{a="x"} 1\nshared{a="y"} 1\n')}) == ()
    mine = {"shared": Block.of(b'shared{a="z"} 2\nshared{a="x"} 2\n'), "alone": Block.of(b"alone 2\n")}
    (warning,) = served.publish("one", mine)
    assert warning == DataWarning(
        "duplicates",
        2,
        'shared is left out: source two has 1 of these 2 series too, such as shared{a="x"}: '
        "give each source a static label of its own",
        metric="shared",
    )  # fmt: skip
    assert served.publish("two", {"shared": Block.of(b'shared{a="x"} 3\n')}) == (), "the one that is served stays"
    assert served.publish("three", {"shared": Block.of(b'shared{a="z"} 4\n')}) == ()
    assert [line for line in text(served).splitlines() if line[0] != "#"] == [
        'shared{a="x"} 3', 'shared{a="z"} 4', "alone 2",
    ]  # fmt: skip
    served.drop("two")
    assert served.publish("one", {"shared": Block.of(b'shared{a="x"} 5\n')}) == ()
    assert 'shared{a="x"} 5' in text(served)


def test_a_family_of_one_source_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    monkeypatch.setattr(
        "exporter.mapping.series_keys.series_hashes", lambda text: hashed.append(text) or series_hashes(text)
    )
    served = exposition()
    served.publish("one", {"alone": Block.of(b"alone 1\n"), "shared": Block.of(b"shared 1\n", hashed=True)})
    assert hashed == [b"shared 1\n"]


LABELS = st.dictionaries(st.sampled_from("abc"), st.text(st.sampled_from('xy",{} =\\\na'), max_size=6), max_size=3)


@hypothesis.given(st.lists(LABELS, max_size=5), st.lists(LABELS, max_size=5))
def test_the_same_series_are_found_however_they_are_written(
    ours: list[dict[str, str]], theirs: list[dict[str, str]]
) -> None:
    def written(rows: list[dict[str, str]], *, backwards: bool) -> bytes:
        lines = []
        for number, row in enumerate(rows):
            pairs = ",".join(f'{name}="{escape(row[name])}"' for name in sorted(row, reverse=backwards))
            lines.append(f"m{{{pairs}}} {number}e-5\n" if row else f"m {number}\n")
        return "".join(lines).encode()

    one, other = written(ours, backwards=False), written(theirs, backwards=True)
    if not one or not other:
        return
    count, example = common_series(one, series_hashes(one), other, series_hashes(other))
    assert bool(count) == any(row in theirs for row in ours)
    assert not count or f"{example} ".encode() in one


class Rows(Collector):
    def __init__(self) -> None:
        self.names = ["x"]

    def collect(self, collection: Collection) -> pl.DataFrame | None:
        version = ",".join(self.names)
        if collection.served == version:
            return None
        collection.version = version
        return pl.DataFrame({"a": self.names, "b": self.names, "v": [1] * len(self.names)})


def test_what_was_left_out_comes_back_though_the_source_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = "".join(SOURCE.format(name=name, labels=labels) for name, labels in (("one", "a, b"), ("two", "b, a")))
    config = parse(f"data_sources:{sources}", "c.yaml")
    rows = {"one": Rows(), "two": Rows()}
    monkeypatch.setattr("exporter.collectors.registry.collector", lambda source: rows[source.name])
    serving = Serving(config.sources)
    kept: dict[str, Kept] = {}
    one, two = (
        SourceJob(source, serving, keep=lambda each: kept.update({each.source: each})) for source in config.sources
    )

    def run(job: SourceJob) -> list[str]:
        told = job.run(datetime(2026, 11, 21, tzinfo=UTC), monotonic() + 60, []).publish()
        return [f"{warning.reason} {warning.metric} {warning.count}" for warning in told]

    assert run(one) == []
    assert [run(two), run(two)] == [["duplicates shared 1"]] * 2
    assert set(serving.exposition.blocks("two")) == {"two_alone"}

    after = Serving(config.sources)
    snapshots = {name: decode(b"".join(encode(each))) for name, each in kept.items()}
    first, second = (SourceJob(source, after).adopt(snapshots[source.name], 2e9) for source in config.sources)
    assert (first.series, second.series) == (2, 1)
    assert [warning.reason for warning in second.warnings] == ["duplicates"], "a restart finds it again"

    one.drop()
    assert run(two) == []
    assert set(serving.exposition.blocks("two")) == {"two_alone", "shared"}
    assert run(one) == ["duplicates shared 1"]
