"""Whatever ends the supervisor, nothing that it started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "STARTED_BY_THE_TEST_IN"
PROGRAM = """
import os, sys
from pathlib import Path
from demo.supervisor import supervise
print("supervising", flush=True)
sys.exit(supervise(Path(sys.argv[1]), dict(os.environ), lambda: None))
"""


def running() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment_of(pid: int) -> list[bytes]:
    """Empty for one that has ended, is a zombie or another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.fixture
def procfile(tmp_path: Path) -> Path:
    """Two processes that note their pids and would run for minutes, one of them deaf to SIGTERM."""
    path = tmp_path / "Procfile"
    path.write_text(
        f"one: echo $$ > {tmp_path}/one.pid; exec sleep 600\n"
        f"deaf: echo $$ > {tmp_path}/deaf.pid; trap '' TERM; echo deaf; while true; do sleep 1; done\n"
    )
    return path


@pytest.fixture
def supervisor(procfile: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(procfile)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, MARK: str(procfile.parent)},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"supervising\n"
        yield process
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def pids(procfile: Path) -> list[int]:
    """Of the processes that have started, by name."""
    return [int(text) for path in sorted(procfile.parent.glob("*.pid")) if (text := path.read_text().strip())]


def assert_nothing_is_left(procfile: Path) -> None:
    """Whatever was started, or is just being started, has inherited the environment."""
    mark = f"{MARK}={procfile.parent}".encode()
    assert not [pid for pid in running() if mark in environment_of(pid)]


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.5])
def test_ctrl_c_at_any_moment_ends_everything(
    supervisor: subprocess.Popen[bytes], procfile: Path, delay: float
) -> None:
    time.sleep(delay)
    supervisor.send_signal(signal.SIGINT)
    supervisor.communicate(timeout=60)
    assert_nothing_is_left(procfile)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(supervisor: subprocess.Popen[bytes], procfile: Path, number: signal.Signals) -> None:
    wait_for(lambda: len(pids(procfile)) == 2, what="both started")
    supervisor.send_signal(number)
    supervisor.communicate(timeout=60)
    assert supervisor.returncode == 0
    assert_nothing_is_left(procfile)


def test_a_reader_that_is_gone_ends_everything(supervisor: subprocess.Popen[bytes], procfile: Path) -> None:
    assert supervisor.stdout is not None
    wait_for(lambda: len(pids(procfile)) == 2, what="both started")
    supervisor.stdout.close()
    os.kill(int((procfile.parent / "one.pid").read_text()), signal.SIGTERM)  # something more to print
    assert supervisor.wait(60) != 0
    assert_nothing_is_left(procfile)


def test_one_that_ends_takes_the_others_along_with_its_exit_code(tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text(f"one: echo $$ > {tmp_path}/one.pid; exec sleep 600\nfails: sleep 0.3; exit 7\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(procfile)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, MARK: str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 7
    assert_nothing_is_left(procfile)
