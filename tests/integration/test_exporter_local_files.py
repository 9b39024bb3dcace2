"""The file source over files that come, change, vanish, and are something else."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from exporter_parts import running
from file_sources import ROWS, Source, csv, source

from exporter.collectors import file as file_module

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SOURCE = """
- name: source
  type: file
  path_pattern: {path}
  interval: 200ms
  max_staleness: 1h
  metrics:
    - {{source_field: rate, prometheus_name: sentinel_rate, labels: [account_id]}}
"""


def write(path: Path, rows: list[dict[str, Any]] = ROWS, *, age: float = 60) -> Path:
    """A file that was last modified `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv(rows))
    os.utime(path, (time.time() - age,) * 2)
    return path


def reading(path: Path | str, **keys: Any) -> Source:
    return source("file", path_pattern=str(path), **keys)


def test_a_report_is_served_kept_while_it_is_unchanged_and_renewed(tmp_path: Path) -> None:
    report = write(tmp_path / "report.csv")
    with running(SOURCE.format(path=report)) as exporter:
        rates = exporter.tried().values("sentinel_rate", "account_id")
        assert rates == {row["account_id"]: row["rate"] for row in ROWS}
        updated = exporter.scrape().value("sentinel_last_update_timestamp", source="source")
        exporter.wait(
            lambda scraped: scraped.value("sentinel_last_update_timestamp", source="source") != updated, "unchanged"
        )
        assert exporter.scrape().values("sentinel_rate", "account_id") == rates
        write(report, ROWS[:1])
        exporter.wait(lambda scraped: len(scraped.samples["sentinel_rate"]) == 1, "the new report")


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    read = reading(write(tmp_path / "r.csv"))
    assert len(read.rates()) == 5
    assert read.collect() is None
    assert read.last is not None
    measures = {measure.name: measure.value for measure in read.last.measures}
    assert measures["file_modified_timestamp_seconds"] == (tmp_path / "r.csv").stat().st_mtime
    assert measures["file_size_bytes"] == len(csv(ROWS))
    kept = (tmp_path / "r.csv").stat()
    write(tmp_path / "new.csv", [{**ROWS[0], "region": "AP"}, *ROWS[1:]])  # of the same size, moved over the old one
    os.utime(tmp_path / "new.csv", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    (tmp_path / "new.csv").replace(tmp_path / "r.csv")
    assert len(read.rates()) == 5


def test_a_file_of_this_very_moment_is_read_again(tmp_path: Path) -> None:
    read = reading(write(tmp_path / "r.csv", age=0))
    assert [len(read.rates()), len(read.rates())] == [5, 5]  # it could have changed within the clock's tick
    write(tmp_path / "r.csv", age=60)
    assert len(read.rates()) == 5
    assert read.collect() is None


def test_the_day_s_file_in_the_owner_s_time_zone(tmp_path: Path) -> None:
    write(tmp_path / "2026-03-01/23.csv", ROWS[:1])
    write(tmp_path / "2026-03-02/00.csv", ROWS[:2])
    hourly = reading(tmp_path / "{date}/{hour}.csv", time_zone="Asia/Singapore", offset="-1h")
    assert len(hourly.rates(now=NOON + timedelta(hours=4))) == 1
    assert len(hourly.rates(now=NOON + timedelta(hours=5))) == 2
    reason, message = hourly.error(now=NOON + timedelta(hours=6))
    assert reason == "unreachable"
    assert f"there is no file {tmp_path}/2026-03-02/01.csv yet" in message
    assert "time_zone and offset" in message


def test_the_newest_of_those_that_match(tmp_path: Path) -> None:
    write(tmp_path / "a/r-2.csv", ROWS[:2], age=100)
    write(tmp_path / "a/r-1.csv", ROWS[:1], age=50)
    write(tmp_path / "a/.r-3.csv.tmp", ROWS[:3], age=10)
    (tmp_path / "a/r-9.csv").mkdir()
    os.mkfifo(tmp_path / "a/r-8.csv")
    (tmp_path / "a/r-7.csv").symlink_to(tmp_path / "nowhere")
    latest = reading(tmp_path / "a/r-*.csv")
    assert len(latest.rates()) == 1
    assert latest.collect() is None
    write(tmp_path / "a/r-0.csv", ROWS[:4], age=5)
    assert len(latest.rates()) == 4
    assert len(reading(tmp_path / "a/r-*.csv", newest_by="name").rates()) == 2
    assert len(reading(tmp_path / "*/r-*.csv").rates()) == 4


def test_a_listing_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.csv")
    reason, message = reading(tmp_path / "*.csv", max_listed=3).error()
    assert reason == "budget"
    assert "more than max_listed (3) files" in message
    assert len(reading(tmp_path / "*.csv", max_listed=4).rates()) == 5


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("gone.csv", "unreachable", "there is no file"),
        ("file.csv/gone.csv", "unreachable", "there is no file"),
        ("gone/*.csv", "unreachable", "gone yet"),
        ("x*.csv", "unreachable", "no file matches"),
        ("folder.csv", "bad_answer", "is a folder: path_pattern must name a regular file"),
        ("fifo.csv", "bad_answer", "is a FIFO"),
        ("socket.csv", "unreachable", "cannot be read: No such device"),
        ("n" * 300 + ".csv", "unreachable", "cannot be read: File name too long"),
    ],
)
def test_what_is_no_readable_file_is_said_at_once(tmp_path: Path, path: str, reason: str, words: str) -> None:
    import socket

    write(tmp_path / "file.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.csv"))
        said, message = reading(tmp_path / path).error()
    assert (said, words in message) == (reason, True), message


def test_a_device_is_refused() -> None:
    reason, message = reading("/dev/zero", format="csv").error()
    assert (reason, message) == ("bad_answer", "/dev/zero is a device: path_pattern must name a regular file")


def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    report = write(tmp_path / "r.csv")
    monkeypatch.setattr(file_module.os, "open", refuse)  # root may read everything
    assert reading(report).error()[0] == "denied"
    monkeypatch.setattr(file_module.os, "access", lambda *_: False)
    reason, message = reading(tmp_path / "x*.csv").error()
    assert (reason, "the folder" in message) == ("denied", True)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write(tmp_path / "r.csv")
    gathered = file_module.gathered

    def meanwhile(*args: Any) -> bytes:
        body = gathered(*args)
        with report.open("ab") as more:
            more.write(b"005,1,EU\n")
        return body

    read = reading(report)
    with monkeypatch.context() as patched:
        patched.setattr(file_module, "gathered", meanwhile)
        error = read.failure()
    assert (error.reason, error.retryable) == ("unreachable", True)
    assert "was changed while it was read: write to another name, and rename" in str(error)
    assert len(read.rates()) == 6


def test_a_large_file_is_not_read_at_all_and_a_growing_one_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.csv"
    with report.open("wb") as sparse:
        sparse.truncate(3_000_000_000)
    with monkeypatch.context() as unread:
        unread.setattr(file_module, "gathered", None)  # calling it would fail
        assert reading(report).error()[0] == "budget"
    endless = source("file", path_pattern="/proc/kallsyms", format="csv", max_bytes=10_000)  # says that it has 0 bytes
    assert endless.error()[0] in ("budget", "denied")


def test_reading_ends_when_the_source_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, reached = write(tmp_path / "r.csv"), threading.Event()

    class Slow(file_module.partial):  # type: ignore[type-arg]
        def __call__(self, *args: Any, **keys: Any) -> Any:
            reached.set()
            return super().__call__(*args, **keys) or b"x"

    monkeypatch.setattr(file_module, "partial", Slow)
    assert reading(report, max_bytes=10**12).cancelled_once(reached.is_set).reason == "timeout"


def test_one_source_s_bad_file_harms_no_other(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.csv"), tmp_path / "bad.csv"
    other = SOURCE.replace("name: source", "name: other").replace("sentinel_rate", "sentinel_other")
    with running(SOURCE.format(path=bad) + other.format(path=good)) as exporter:
        scraped = exporter.tried()
        assert len(scraped.samples["sentinel_other"]) == 5
        assert scraped.value("sentinel_source_up", source="source") == 0
        assert exporter.error()[0] == "unreachable"
        write(bad)
        exporter.wait(lambda scraped: "sentinel_rate" in scraped.samples, "the file that came late")
