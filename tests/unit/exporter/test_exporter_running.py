"""Shards, snapshots, fingerprints, measures, secrets that change, and the lines of self metrics."""

from __future__ import annotations

import math
import os
import re
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from servers import wait_for

from exporter.collectors.base import Collection, Collector, Measure, SourceConfig
from exporter.config import ExporterConfig, parse
from exporter.crew import Crew
from exporter.environment import Secrets
from exporter.errors import CollectError
from exporter.exposition import Block
from exporter.fingerprint import of_config, of_source
from exporter.job import SourceJob
from exporter.mapping.spec import DataWarning
from exporter.measured import MOST_LABEL_SETS, Measured
from exporter.reload import ReloadState, restart_needed
from exporter.sample_lines import family, label
from exporter.scheduler import Failure, SourceState
from exporter.self_metrics import About, self_metrics
from exporter.serving import Serving
from exporter.shard import Shard
from exporter.snapshot import NoSnapshot, Snapshot, decode, encode
from exporter.warm_start import WarmStart

PAGE = (Path(__file__).parents[3] / "docs/running-the-exporter.md").read_text()
SOURCE = """
- name: one
  type: database
  interval: {interval}
  connection: {{driver: sqlite, database: x.db}}
  query: {query}
  metrics: [{{source_field: v, prometheus_name: sentinel_v, labels: [id]}}]
"""


def source(interval: str = "1h", query: str = "SELECT 1") -> SourceConfig:
    return parse(f"data_sources:{SOURCE.format(interval=interval, query=query)}", "c.yaml").sources[0]


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30)


@given(names, st.integers(1, 12))
def test_each_source_is_in_one_shard_and_moves_only_to_a_new_one(name: str, count: int) -> None:
    (owner,) = [index for index in range(count) if Shard(index, count).has(name)]
    (after,) = [index for index in range(count + 1) if Shard(index, count + 1).has(name)]
    assert after in (owner, count)


def test_shards_get_about_as_much_each() -> None:
    sizes = Counter(next(i for i in range(4) if Shard(i, 4).has(f"source-{n}")) for n in range(1000))
    assert all(200 <= size <= 300 for size in sizes.values())


@pytest.mark.parametrize("text", ["", "1", "2/2", "a/b", "-1/2", "0/0", "1/2/3", "99999/100000"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shard"):
        Shard.parse(text)
    assert Shard.parse(" 1/3 ") == Shard(1, 3)


blocks = st.dictionaries(names, st.text(max_size=200).map(lambda text: Block.of(text.encode("utf-8", "replace"))))


@given(blocks, st.text(max_size=20), st.one_of(st.none(), st.text()), st.floats(0, 1e10))
def test_a_snapshot_is_read_as_it_was_written(
    written: dict[str, Block], detail: str, version: str | None, at: float
) -> None:
    warnings = (DataWarning("not_a_number", 3, detail, "sentinel_x"),)
    snapshot = Snapshot("one", "c0ffee", "1.2.3", at, 3, 4, version, warnings, written)
    assert decode(b"".join(encode(snapshot))) == snapshot


@given(st.data())
def test_a_damaged_snapshot_is_never_taken_for_a_whole_one(data: st.DataObject) -> None:
    snapshot = Snapshot("one", "c0ffee", "1", 1.5, 3, 4, blocks={"sentinel_v": Block.of(b'sentinel_v{id="a"} 7\n' * 9)})
    content = bytearray(b"".join(encode(snapshot)))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(content), bytes(content[:position])):
        with pytest.raises(NoSnapshot):
            decode(damaged)


@pytest.mark.parametrize(("passed", "found"), [(5 * 3600 - 1, True), (5 * 3600, False)])
def test_only_data_younger_than_max_staleness_is_loaded(tmp_path: Path, passed: float, found: bool) -> None:
    config, folder = source(), WarmStart(tmp_path)
    (tmp_path / "one.snapshot").write_bytes(b"".join(encode(Snapshot("one", of_source(config), "1", 1e9, 3, 4))))
    assert list(folder.load([config], ["one"], 1e9 + passed)) == ["one"] * found


def test_two_processes_of_one_id_write_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    opening = os.open

    def noted(path: Path, *arguments: int) -> int:
        opened.append(str(path))
        return opening(path, *arguments)

    monkeypatch.setattr("exporter.warm_start.os.open", noted)
    for _ in range(2):
        writer = WarmStart(tmp_path)
        writer.start()
        writer.keep(Snapshot("one", "c0ffee", "1", 1e9, 3, 4))
        writer.close()
    assert len(set(opened)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["one.snapshot"]


def test_files_of_a_killed_process_are_removed_once_they_are_old(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / name for name in (".one.snapshot.7", ".one.snapshot.c0ffee", ".hidden"))
    for file, age in ((old, 3601), (new, 3599), (foreign, 9999)):
        file.write_bytes(b"half")
        os.utime(file, (1e9 - age, 1e9 - age))
    WarmStart(tmp_path).load([source()], ["one"], 1e9)
    assert [old.exists(), new.exists(), foreign.exists()] == [False, True, True]


def test_a_fingerprint_is_of_values_not_of_text() -> None:
    assert of_source(source("1h")) == of_source(source("60m"))
    assert of_source(source("1h")) != of_source(source("2h"))
    assert of_source(source(query="SELECT 1")) != of_source(source(query="SELECT 2"))
    one, other = (parse(f"exporter: {{port: {port}}}\ndata_sources:{SOURCE.format(interval='1h', query='q')}", "c.yaml")
                  for port in (8000, 8001))  # fmt: skip
    assert of_config(one) != of_config(other)
    assert float(of_config(one)) == of_config(one), "a metric holds it exactly"
    assert restart_needed(one.server, other.server) == ("exporter.port",)


def test_replicas_of_one_file_have_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(address: str, head: str = "# a comment\n", query: str = "SELECT 1") -> ExporterConfig:
        monkeypatch.setenv("POD_IP", address)
        text = f"{head}exporter: {{host: '${{POD_IP}}'}}\ndata_sources:{SOURCE.format(interval='1h', query=query)}"
        return parse(text, "c.yaml")

    one, other = loaded("10.0.0.1"), loaded("10.0.0.2", head="")
    assert one.server.host != other.server.host
    assert len({of_config(config) for config in (one, other, one.listening_on(9999))}) == 1
    assert of_config(one) != of_config(loaded("10.0.0.1", query="SELECT 2026-01-01"))
    assert of_config(one) != of_config(loaded("10.0.0.1", query="SELECT '${POD_IP}'"))


def test_counters_add_up_and_gauges_are_the_last() -> None:
    def run(billed: float, **lag: float) -> list[Measure]:
        gauges = [Measure("lag", "Lag.", value, "gauge", {"partition": name}) for name, value in lag.items()]
        return [Measure("bytes_billed", "Bytes.", billed, "counter"), *gauges]

    measured = Measured().after(run(10, a=1, b=2)).after(run(5, a=3)).after([])
    assert measured.by_name["bytes_billed"].values == {(): 15}
    assert measured.by_name["lag"].values == {(("partition", "a"),): 3}, "what the last run did not name is gone"
    assert measured.refused == 0


@pytest.mark.parametrize(
    "measure",
    [
        Measure("Bad-Name", "", 1),
        Measure("lag", "", 1, "counter"),
        Measure("bytes", "", -1, "counter"),
        Measure("bytes", "", math.nan, "counter"),
    ],
)
def test_measures_that_cannot_be_are_left_out_and_counted(measure: Measure) -> None:
    before = Measured().after([Measure("lag", "Lag.", 1)])
    after = before.after([measure])
    assert (after.by_name, after.refused) == (before.by_name, 1)


def test_label_sets_of_a_measure_are_bounded() -> None:
    many = [Measure("reads", "Reads.", 1, "counter", {"file": str(i)}) for i in range(MOST_LABEL_SETS + 50)]
    measured = Measured().after(many).after(many[:1])
    assert len(measured.by_name["reads"].values) == MOST_LABEL_SETS
    assert measured.refused == 50
    assert measured.by_name["reads"].values[("file", "0"),] == 2


def test_secrets_know_when_one_that_was_read_has_changed(tmp_path: Path) -> None:
    file, environ = tmp_path / "token", {"USER": "u", "PASSWORD": "p", "OTHER": "o"}
    file.write_text("old\n")
    secrets = Secrets(environ)
    secrets.secret(file=str(file))
    secrets.expand("${USER}:${PASSWORD}")
    environ["OTHER"] = "changed"
    assert not secrets.changed
    environ["PASSWORD"] = "new"
    assert secrets.changed
    environ["PASSWORD"] = "p"
    assert not secrets.changed
    file.unlink()
    assert secrets.changed


def test_a_secret_that_was_missing_has_changed_once_it_is_there(tmp_path: Path) -> None:
    secrets = Secrets({})
    for read in (lambda: secrets.secret(env="TOKEN"), lambda: secrets.secret(file=str(tmp_path / "absent"))):
        with pytest.raises(CollectError):
            read()
    assert not secrets.changed
    (tmp_path / "absent").write_text("x")
    assert secrets.changed


class Versioned(Collector):
    """Data of a version that the test sets; unchanged while it is the one that is served."""

    def __init__(self) -> None:
        self.version: str | None = "v1"
        self.during = lambda: None

    def collect(self, collection: Collection) -> pl.DataFrame | None:
        self.during()
        if collection.served is not None and collection.served == self.version:
            return None
        collection.version = self.version
        return pl.DataFrame({"id": ["a"], "v": [7]})


def test_unchanged_data_that_was_dropped_while_the_source_was_asked_is_served_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collector, config = Versioned(), source()
    monkeypatch.setattr("exporter.collectors.registry.collector", lambda _: collector)
    serving = Serving([config])
    kept: list[Snapshot] = []
    job = SourceJob(config, serving, keep=kept.append)

    def run(hour: int) -> None:
        job.run(datetime(2026, 11, 21, hour, tzinfo=UTC), monotonic() + 60, []).publish()

    run(1)
    run(2)
    collector.during = job.drop
    run(3)
    assert serving.exposition.blocks("one")["sentinel_v"].text == b'sentinel_v{id="a"} 7\n'
    assert [datetime.fromtimestamp(each.at, UTC).hour for each in kept] == [1, 2, 3], "freshness is renewed"
    assert {each.version for each in kept} == {"v1"}
    job.drop()
    collector.during = lambda: None
    run(4)
    assert serving.exposition.blocks("one"), "what was dropped is asked for as a whole"


def test_a_fault_while_data_is_published_is_told_as_a_failed_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    config = source()
    monkeypatch.setattr("exporter.collectors.registry.collector", lambda _: Versioned())
    serving = Serving([config])
    monkeypatch.setattr(serving, "publish", broken)
    outcome = SourceJob(config, serving).run(datetime(2026, 11, 21, tzinfo=UTC), monotonic() + 60, [])
    with pytest.raises(CollectError, match="RuntimeError: no"):
        outcome.publish()


def test_a_collector_that_fails_to_hear_that_it_was_published_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    collector, config = Versioned(), source()

    def broken() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(collector, "published", broken)
    monkeypatch.setattr(collector, "close", broken)
    monkeypatch.setattr("exporter.collectors.registry.collector", lambda _: collector)
    serving = Serving([config])
    job = SourceJob(config, serving)
    outcome = job.run(datetime(2026, 11, 21, tzinfo=UTC), monotonic() + 60, [])
    outcome.publish()
    outcome.published()
    job.close()
    assert serving.exposition.blocks("one")


def test_a_version_of_another_program_is_not_believed() -> None:
    config = source()
    snapshot = Snapshot(
        "one", of_source(config), "1.0", 1e9, 1, 1, "v1", blocks={"sentinel_v": Block.of(b"sentinel_v 1\n")}
    )
    for program, version in (("1.0", "v1"), ("2.0", None)):
        job = SourceJob(config, Serving([config]), program=program)
        assert job.adopt(snapshot, 1e9 + 5).age == 5
        assert job._served is not None
        assert job._served.version == version


@given(st.text(), st.text(), st.floats())
def test_lines_of_self_metrics_are_read_back_whatever_is_in_them(value: str, help_text: str, number: float) -> None:
    sample = (label("reason", value), number)
    text = family("text", "sentinel_x", "counter", help_text, [sample])
    (found,) = list(text_string_to_metric_families(text))
    assert found.samples[0].name == "sentinel_x_total"
    assert found.samples[0].labels == {"reason": value.replace("\0", "")}
    assert found.samples[0].value == number or math.isnan(number)
    other = family("openmetrics", "sentinel_x", "gauge", help_text, [sample]) + "# EOF\n"
    assert [f.samples[0].labels for f in openmetrics_families(other)] == [found.samples[0].labels]


def test_both_formats_of_the_self_metrics_are_valid_and_say_the_same() -> None:
    measured = Measured().after(
        [Measure("bytes_billed", 'Bytes "billed".', 10, "counter"), Measure("lag", "Lag.", math.inf, labels={"p": "0"})]
    )
    states = [
        SourceState("a", 30.0, attempts=1, last_success_at=1.0, fresh_since=2.0, duration=0.5, next_run=9.0, lag=0.1,
                    measured=measured, warnings={'"quoted"\n': 2}),
        SourceState("b", 60.0, attempts=3, failures=3, stopped=True, last_failure=Failure(0, "denied", "no"),
                    errors={"denied": 3, "budget": 2}, cron="0 6 * * *"),
        SourceState("c", 60.0),
    ]  # fmt: skip
    loaded = ReloadState(successful=True, succeeded_at=5.0, config_hash=12345)
    about = About(loaded, Shard(1, 3), 2, {"a": "database", "b": "rest_api", "c": "file"})
    texts = (
        self_metrics("text", states, about, monotonic=4.0, wall=1004.0),
        self_metrics("openmetrics", states, about, monotonic=4.0, wall=1004.0) + "# EOF\n",
    )
    found = [
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for each in parser(text)
            for sample in each.samples
        }
        for parser, text in zip((text_string_to_metric_families, openmetrics_families), texts, strict=True)
    ]
    assert found[0] == found[1]
    read = found[0]
    of_a, of_b = ("source", "a"), ("source", "b")
    assert read["sentinel_source_bytes_billed_total", of_a] == 10
    assert read["sentinel_source_lag", ("p", "0"), of_a] == math.inf
    assert read["sentinel_source_age_seconds", of_a] == 2
    assert read["sentinel_source_next_run_timestamp_seconds", of_a] == 1009
    assert read["sentinel_source_budget_refusals_total", of_b] == 2
    assert read["sentinel_source_budget_refusals_total", of_a] == 0, "an increase can be seen from the first on"
    assert read["sentinel_source_stopped", of_b] == 1
    assert read["sentinel_exporter_shard_info", ("shard", "1")] == 1
    assert read["sentinel_exporter_snapshot_write_failures_total",] == 2
    assert ("sentinel_source_up", ("source", "c")) not in read


def test_a_crew_has_no_bound_and_uses_its_threads_again() -> None:
    crew, release, threads = Crew("test"), threading.Event(), set()
    begun = threading.Semaphore(0)

    def hang() -> None:
        threads.add(threading.get_ident())
        begun.release()
        release.wait()

    for _ in range(50):
        crew.run(hang)
    assert all(begun.acquire(timeout=60) for _ in range(50)), "one that hangs keeps no other waiting"
    assert len(threads) == 50
    release.set()
    wait_for(lambda: len(crew._idle) == 50, what="all are idle", timeout=60)
    done = threading.Semaphore(0)
    for _ in range(20):
        crew.run(done.release)
        assert done.acquire(timeout=60)
    assert crew._made == 50


def test_the_operators_page_has_valid_examples_and_every_metric_and_rule() -> None:
    for example in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        assert parse(example, "page").sources
    loaded = ReloadState(successful=True, succeeded_at=5.0, config_hash=1)
    state = SourceState(
        "a",
        30.0,
        attempts=1,
        last_success_at=1.0,
        fresh_since=1.0,
        duration=1.0,
        next_run=1.0,
        lag=0.0,
        last_run_at=1.0,
        warnings={"x": 1},
        errors={"x": 1},
        measured=Measured(refused=1),
    )
    text = self_metrics("text", [state], About(loaded, snapshot_failures=0), monotonic=1.0, wall=1.0)
    told = {sample.name for each in text_string_to_metric_families(text) for sample in each.samples}
    rules = re.findall(r"alert: (\w+)", (Path(__file__).parents[3] / "prometheus/rules/exporter.yml").read_text())
    assert {f"`{name}`" for name in told} <= set(re.findall(r"`\w+`", PAGE))
    assert [name for name in rules if f"| {name} |" not in PAGE] == []
