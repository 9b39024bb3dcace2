"""An exporter that goes on: reload, warm start, shards, stopped sources, as an operator sees them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import requests
from exporter_commands import as_it_was, call
from reload_parts import Configured, api, asked, served
from servers import answers, wait_for
from servers_http import Answer, Api, api_server

from exporter.collectors.base import Collection, Collector, Measure
from exporter.config import ExporterConfig
from exporter.errors import ConfigError, Unauthorized
from exporter.exposition import Block
from exporter.job import SourceJob
from exporter.scheduler import Clock
from exporter.shard import Shard

__all__ = ["as_it_was"]  # a fixture
ROOT = Path(__file__).parents[2]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


@pytest.fixture
def server() -> Iterator[Api]:
    with api_server() as started:
        started.answer = lambda _: Answer(body={"data": [{"id": "a", "v": 7}]})
        yield started


def test_a_reload_changes_what_has_changed_and_nothing_else(configured: Configured, server: Api) -> None:
    configured.write(api(server, "kept"), api(server, "changed"), api(server, "removed"))
    with configured.running() as exporter:
        before = exporter.tried()
        collector = exporter.exporter._scheduler.slots[0].job._collector  # type: ignore[attr-defined]
        configured.write(api(server, "added"), api(server, "changed", "2h"), "# a comment", api(server, "kept"))
        changes = exporter.exporter.reload()
        assert (changes.kept, changes.changed, changes.added, changes.removed) == (
            ("kept",), ("changed",), ("added",), ("removed",),
        )  # fmt: skip
        assert "removed" not in served(exporter.scrape())
        after = exporter.wait(lambda s: len(served(s)) == 3 and asked(server, "changed") == 2, "collected anew")
        assert [state.name for state in exporter.exporter._scheduler.states] == ["added", "changed", "kept"]
        assert exporter.exporter._scheduler.slots[2].job._collector is collector  # type: ignore[attr-defined]
    assert (asked(server, "kept"), asked(server, "removed"), asked(server, "added")) == (1, 1, 1)
    for name in ("sentinel_last_update_timestamp", "sentinel_source_next_run_timestamp_seconds"):
        assert after.value(name, source="kept") == pytest.approx(before.value(name, source="kept"), abs=60)
    assert after.value("sentinel_source_interval_seconds", source="changed") == 7200
    assert after.value("sentinel_source_up", source="removed") is None


def test_a_bad_file_changes_nothing_and_is_told(
    configured: Configured, server: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        before = exporter.tried()
        configured.file.write_text("data_sources:\n- {name: one, type: rest_api, intervall: 5s}\n")
        with pytest.raises(ConfigError, match="did you mean interval"):
            exporter.exporter.reload()
        failed = exporter.scrape()
        configured.write(api(server, "one"), api(server, "two"))
        exporter.exporter.reload()
        mended = exporter.wait(lambda s: "two" in served(s), "second source")
    good = "sentinel_exporter_config_last_reload_successful"
    at, number = "sentinel_exporter_config_last_reload_success_timestamp_seconds", "sentinel_exporter_config_hash"
    assert (before.value(good), failed.value(good), mended.value(good)) == (1, 0, 1)
    assert served(failed) == served(before)
    assert failed.value(at) == before.value(at)
    assert failed.value(number) == before.value(number)
    assert (mended.value(at) or 0) > (before.value(at) or 0)
    assert mended.value(number) != before.value(number)
    assert "intervall" in capsys.readouterr().out


def test_pages_cost_only_what_they_show(configured: Configured, server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        exporter.tried()
        first = exporter.exporter.config_page()
        assert exporter.exporter.config_page() is first, "written once"
        configured.write(api(server, "two"))
        exporter.exporter.reload()
        assert "two" in exporter.exporter.config_page()
        monkeypatch.setattr(exporter.exporter._self_metrics, "text", None)  # calling it would fail
        assert exporter.get("/metrics?name[]=sentinel_v").ok


def test_an_error_of_the_exporters_own_fails_the_reload_and_nothing_else(
    configured: Configured, server: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        before = exporter.tried()

        password = "hunter2"  # in the message, and not in the line that the traceback quotes

        def broken() -> ExporterConfig:
            raise KeyError(password)

        exporter.exporter._load = broken
        answer = requests.post(exporter.exporter.url + "/-/reload", timeout=60)
        after = exporter.scrape()
    assert answer.status_code == 500
    assert "nothing has changed" in answer.text
    assert "KeyError" in answer.text
    assert after.value("sentinel_exporter_config_last_reload_successful") == 0
    assert served(after) == served(before)
    told = capsys.readouterr().out
    assert "configuration not reloaded" in told
    assert "hunter2" not in told + answer.text


@pytest.mark.parametrize(("change", "stays"), [("timeout: 9s", True), ("label_defaults: {id: none}", False)])
def test_data_of_a_changed_source_stays_only_while_it_is_mapped_alike(
    configured: Configured, server: Api, change: str, stays: bool
) -> None:
    configured.write(api(server, "one"))
    release, passed = threading.Event(), [0.0]
    clock = Clock(lambda: time.monotonic() + passed[0], lambda: time.time() + passed[0])
    with configured.running(clock) as exporter:
        before = exporter.tried()
        passed[0] = 600
        with exporter.exporter._scheduler._changed:
            exporter.exporter._scheduler._changed.notify()  # its thread waits by the real clock
        server.answer = lambda _: Answer(body={"data": [{"id": "a", "v": 8}]}, held=release)
        configured.write(api(server, "one", more=change))
        exporter.exporter.reload()
        wait_for(lambda: asked(server, "one") == 2, what="asked anew", timeout=60)
        during = exporter.scrape()
        release.set()
        exporter.wait(lambda s: served(s) == {"one": 8.0}, "new data")
    assert served(during) == ({"one": 7.0} if stays else {})
    name = "sentinel_last_update_timestamp"
    assert during.value(name, source="one") == (
        pytest.approx(before.value(name, source="one"), abs=60) if stays else None
    )


def test_a_running_collection_of_a_removed_source_is_cancelled(configured: Configured, server: Api) -> None:
    release = threading.Event()
    configured.write(api(server, "slow", more="timeout: 1h"), api(server, "other"))
    server.answer = lambda request: Answer(
        body={"data": [{"id": "a", "v": 7}]}, held=release if "slow" in request.path else None
    )
    with configured.running() as exporter:
        wait_for(lambda: asked(server, "slow"), what="asked")
        slot = exporter.exporter._scheduler.slots[0]
        configured.write(api(server, "other"))
        exporter.exporter.reload()
        assert slot.closed.wait(60), "cancelled long before its timeout"
        release.set()
        assert "slow" not in served(exporter.wait(lambda s: "other" in served(s), "other"))


def test_reloads_at_once_are_done_one_after_the_other(configured: Configured, server: Api) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        exporter.tried()
        configured.write(api(server, "one", "2h"), api(server, "two"))
        with ThreadPoolExecutor(5) as pool:
            changes = [each.result() for each in [pool.submit(exporter.exporter.reload) for _ in range(5)]]
        exporter.wait(lambda s: "two" in served(s) and asked(server, "one") == 2, "collected anew")
    assert sorted((each.changed, each.added) for each in changes) == [((), ())] * 4 + [(("one",), ("two",))]
    assert (asked(server, "one"), asked(server, "two")) == (2, 1)


class Guarded(Collector):
    """A source that takes the token `new` only."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.asked = 0

    def collect(self, collection: Collection) -> pl.DataFrame:
        collection.measures.append(Measure("requests", "Requests.", 1, "counter", {"to": "guard"}))
        secret = collection.secrets.secret(file=str(self.file))
        self.asked += 1  # from now on a new secret is one for the next time
        if secret != "new":
            raise Unauthorized("the token was refused")
        return pl.DataFrame({"id": ["a"], "v": [7]})


def test_refused_credentials_stop_a_source_until_the_secret_changes(
    configured: Configured, server: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    guarded = Guarded(token)
    monkeypatch.setattr("exporter.collectors.registry.collector", lambda _: guarded)
    looked, changed = [0], SourceJob.secrets_changed

    def looks(job: SourceJob) -> bool:
        looked[0] += 1
        return changed(job)

    monkeypatch.setattr(SourceJob, "secrets_changed", looks)
    configured.write(api(server, "one", "100ms", "max_staleness: 1h"))
    with configured.running() as exporter:
        stopped = exporter.wait(lambda s: s.value("sentinel_source_stopped", source="one"), "stopped")
        wait_for(lambda: looked[0] > 3, what="looked at the secret at each interval", timeout=60)
        assert guarded.asked == 1
        assert stopped.value("sentinel_source_next_run_timestamp_seconds", source="one") is None
        exporter.exporter.reload()
        wait_for(lambda: guarded.asked == 2, what="tried again after a reload")
        token.write_text("new")
        well = exporter.wait(lambda s: s.value("sentinel_source_up", source="one"), "well again")
    assert well.value("sentinel_source_stopped", source="one") == 0
    assert served(well) == {"one": 7.0}
    assert (well.value("sentinel_source_requests_total", source="one", to="guard") or 0) >= 3


def later(seconds: float) -> Clock:
    return Clock(wall=lambda: time.time() + seconds)


def test_a_restart_has_no_gap_and_the_age_tells_the_truth(configured: Configured, server: Api) -> None:
    configured.write(api(server, "one"), api(server, "two"))
    with configured.running() as exporter:
        before = exporter.tried()
    server.answer = lambda _: Answer(503)
    with configured.running(later(600)) as exporter:
        first = exporter.scrape()
        ready = exporter.get("/-/ready").ok
    assert served(first) == served(before) == {"one": 7.0, "two": 7.0}
    assert ready
    assert (asked(server, "one"), first.value("sentinel_source_up", source="one")) == (1, None)
    assert (first.value("sentinel_source_age_seconds", source="one") or 0) >= 600
    updated = "sentinel_last_update_timestamp"
    assert first.value(updated, source="one") == pytest.approx(before.value(updated, source="one"), abs=60)
    assert first.value("sentinel_source_series", source="one") == 1
    assert first.value("sentinel_source_warm", source="one") == 1


def test_data_that_outlived_a_change_outlives_a_restart_too(configured: Configured, server: Api) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        before = exporter.tried()
        server.answer = lambda _: Answer(503)
        for change in ("timeout: 9s", "timeout: 8s"):
            configured.write(api(server, "one", more=change))
            exporter.exporter.reload()
        assert served(exporter.scrape()) == {"one": 7.0}
    with configured.running() as restarted:
        after = restarted.scrape()
    assert served(after) == {"one": 7.0}
    name = "sentinel_last_update_timestamp"
    assert after.value(name, source="one") == pytest.approx(before.value(name, source="one"), abs=60)


def test_only_who_takes_gzip_makes_the_exporter_compress(
    configured: Configured, server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        exporter.tried()
        compressed: list[bytes] = []
        of = Block.of
        for coding in ("identity", "gzip"):
            exporter.get("/metrics", **{"Accept-Encoding": coding})  # the page of all sources is joined here
        monkeypatch.setattr(Block, "of", lambda text: compressed.append(text) or of(text))
        plain = exporter.get("/metrics", **{"Accept-Encoding": "identity"})
        assert (compressed, "sentinel_source_up" in plain.text) == ([], True)
        assert "sentinel_source_up" in exporter.get("/metrics", **{"Accept-Encoding": "gzip"}).text
        assert len(compressed) == 1


def test_warm_data_is_not_served_when_it_is_too_old_of_another_configuration_or_damaged(
    configured: Configured, server: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write(*(api(server, name) for name in ("old", "other", "damaged", "gone", "good")))
    with configured.running() as exporter:
        exporter.tried()
    damaged = configured.warm / "damaged.snapshot"
    damaged.write_bytes(damaged.read_bytes()[:-30] + b"x" * 30)
    (configured.warm / "notes.snapshot").write_text("not ours")
    server.answer = lambda _: Answer(503)
    configured.write(
        api(server, "old", more="max_staleness: 1m"),
        api(server, "other", metric="sentinel_w"),
        api(server, "damaged"),
        api(server, "good"),
    )
    aged = configured.warm / "old.snapshot"
    with configured.running(later(120)) as exporter:
        first = exporter.scrape()
    assert served(first) == {"good": 7.0}
    assert "sentinel_w" not in first.samples
    assert aged.exists()
    assert not (configured.warm / "gone.snapshot").exists()
    assert (configured.warm / "notes.snapshot").exists()
    told = capsys.readouterr().out
    assert "is damaged" in told
    assert "is no snapshot of a source" in told


def test_a_full_disk_is_a_warning(configured: Configured, server: Api, capsys: pytest.CaptureFixture[str]) -> None:
    configured.warm.symlink_to("/dev/full")  # nothing can be made in there, as little as on a full disk
    configured.write(api(server, "one", "200ms", "max_staleness: 1h"))
    with configured.running() as exporter:
        failed = exporter.wait(
            lambda s: (s.value("sentinel_exporter_snapshot_write_failures_total") or 0) > 1, "failed writes"
        )
    assert served(failed) == {"one": 7.0}
    assert failed.value("sentinel_source_up", source="one") == 1
    assert capsys.readouterr().out.count("snapshot not written") == 1


def test_shards_share_the_sources_and_none_is_lost(configured: Configured, server: Api) -> None:
    names = [f"source-{i}" for i in range(12)]
    configured.write(*(api(server, name) for name in names))
    found: list[str] = []
    for index in range(3):
        with configured.running(shard=Shard(index, 3)) as exporter:
            scraped = exporter.tried()
            found += served(scraped)
            assert scraped.value("sentinel_exporter_shard_info", shard=str(index)) == 1
            assert scraped.value("sentinel_exporter_shards") == 3
    assert sorted(found) == sorted(names)
    assert len(list(configured.warm.glob("*.snapshot"))) == 12, "a shard keeps the others' snapshots"


def test_sighup_reloads_and_a_wrong_shard_is_told(
    configured: Configured, server: Api, free_port: Callable[[], int], tmp_path: Path
) -> None:
    configured.write(api(server, "one"))
    command, port, log = (
        [sys.executable, "-m", "exporter", "--config", str(configured.file)],
        free_port(),
        tmp_path / "log",
    )
    done = call("--config", configured.file, "--shard", "2/2")
    assert done.exit_code == 2
    assert "the first is 0/2, the last 1/2" in done.stderr
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=output, cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(url + "/-/ready"), what="ready", timeout=60)
        configured.write(api(server, "one"), api(server, "two"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "two" in requests.get(url + "/metrics", timeout=60).text, what="reloaded")
        configured.file.write_text("nothing")
        process.send_signal(signal.SIGHUP)
        bad, good = (f"config_last_reload_successful {ok}" for ok in "01")
        wait_for(lambda: bad in requests.get(url + "/metrics", timeout=60).text, what="refused")
        configured.write(api(server, "one"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: good in requests.get(url + "/metrics", timeout=60).text, what="mended")
        configured.write(api(server, "one", more="label_defaults: {id: 2026-02-30}"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: bad in requests.get(url + "/metrics", timeout=60).text, what="a date that there is not")
        process.send_signal(signal.SIGINT)  # another test ends one with SIGTERM
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "configuration reloaded" in log.read_text()


def test_other_keys_of_the_exporter_take_effect_at_the_next_start(
    configured: Configured, server: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write(api(server, "one"))
    with configured.running() as exporter:
        exporter.tried()
        configured.write(api(server, "one"), head=", host: localhost")
        exporter.exporter.reload()
        assert exporter.scrape().value("sentinel_exporter_config_last_reload_successful") == 1
    told = capsys.readouterr().out
    assert "only at the next start" in told
    assert "exporter.host" in told
