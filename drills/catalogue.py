"""The drills: what is done to the stack, and what the control run lacks."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from drills import disk
from drills.memory import tree
from drills.programs import Program
from drills.run import Drill, Run
from drills.stack import Needs, sentinel
from drills.store import locked
from tests import servers
from tests.fakes_llm import hanging

_FAILURES = 6


def _kill_serve(run: Run) -> None:
    """In the middle of a delivery, twice."""
    for _ in range(2):
        killed = threading.Event()
        run.stack.tap.in_call = partial(_kill, run.stack["serve"], killed)
        servers.wait_for(killed.is_set, what="a delivery under way")
        run.stack["serve"].wait_until_ready()


def _kill_worker(run: Run) -> None:
    """When Slack has taken a message and the worker has not heard so yet."""
    killed = threading.Event()
    run.broken_off += 1
    run.stack.slack.under_way = partial(_kill, run.stack["worker"], killed)
    servers.wait_for(killed.is_set, what="a message under way")
    run.stack["worker"].wait_until_ready()


def _kill(program: Program, killed: threading.Event) -> None:
    program.kill()
    killed.set()


def _restart_postgresql(run: Run) -> None:
    server = run.stack["postgresql"]
    server.stop(signal.SIGQUIT)
    run.wait(4)
    server.start()


def _lock_sqlite(run: Run) -> None:
    """Longer than anybody waits for a lock."""
    assert run.stack.sqlite is not None
    with locked(run.stack.sqlite):
        run.wait(8)


def _fill_disk(run: Run) -> None:
    """Until a delivery was refused, and for 6 s; the control run refuses none."""
    assert run.stack.sqlite is not None
    if run.stack.disk is None:
        run.say(
            "NOT a full disk: nothing may be mounted here. Files of `serve` and `worker` cannot grow instead (EFBIG)"
        )
        with disk.not_growing(pid for name in ("serve", "worker") for pid in tree(run.stack[name].pid)):
            run.wait(6)
        return
    disk.empty_log(run.stack.sqlite)
    before = run.stack.tap.refused
    with disk.full(run.stack.disk):
        run.say(f"the file system of {disk.MIB} MiB that the database is on is full")
        run.wait(6)
        if not run.control:
            servers.wait_for(lambda: run.stack.tap.refused > before, what="a delivery that was refused")


def _stop_redis(run: Run) -> None:
    _away(run, "redis")


def _stop_prometheus(run: Run) -> None:
    _away(run, "prometheus")


def _away(run: Run, name: str) -> None:
    """Until an attack that began meanwhile was told."""
    run.stack[name].stop()
    run.carried_on()
    run.stack[name].kept = True
    run.stack[name].start()


def _stop_alertmanager(run: Run) -> None:
    """For longer than a session timeout: what is not heard of for that time is looked up, and nobody answers."""
    program = run.stack["alertmanager"]
    run.load.hold_since = 0.0  # all go on: none ends while nobody could say so
    program.stop()
    run.wait(
        run.drill.needs.session_timeout + (14 if run.control else 4)
    )  # longer: what it ended wrongly is stale first
    program.kept = True
    program.start()


def _hang_llm(run: Run) -> None:
    assert run.stack.llm is not None
    answers = run.stack.llm.answers
    run.stack.llm.answers = [hanging()]
    run.carried_on()
    run.stack.llm.answers = answers


def _slack_fails(run: Run) -> None:
    """A third of the calls each: 500, a connection that breaks, 429."""
    slack = run.stack.slack
    slack.failing = True
    servers.wait_for(lambda: slack.failed >= _FAILURES, what="calls that failed")
    run.wait(4)
    slack.failing = False


def _skew(run: Run) -> None:
    """Of three merchants one's alerts come from a clock seven minutes ahead, one's from one seven minutes behind."""
    shifts: dict[str, timedelta] = {attack.account: timedelta(0) for attack in run.attacks}

    def shifted(payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "alerts": [_shift(alert, shifts) for alert in payload["alerts"]]}

    run.stack.tap.rewrite = shifted
    run.wait(6)


def _shift(alert: dict[str, Any], shifts: dict[str, timedelta]) -> dict[str, Any]:
    account = alert["labels"]["account_id"]
    shift = shifts.setdefault(account, timedelta(minutes=7 * (int(account[-4:]) % 3 - 1)))
    times = {name: alert[name] for name in ("startsAt", "endsAt") if not alert[name].startswith("0001")}
    return {**alert, **{name: (datetime.fromisoformat(text) + shift).isoformat() for name, text in times.items()}}


def _deploy_broken(run: Run) -> None:
    """A rolling deployment: the old processes go when the new ones are ready, and go on where those give up."""
    path = run.stack.folder / "broken.yaml"
    path.write_text(yaml.safe_dump({"alert_types": {"default": {"session_timeout": "soon"}}, "chanels": {}}))
    ports = {"serve": servers.free_port(), "worker": servers.free_port()}
    new = [_successor(run, name, path, port) for name, port in ports.items()]
    for program in new:
        program.start(wait=False)
    servers.wait_for(lambda: all(map(_ready_or_gone, new)), what="the new processes ready, or gone", timeout=120)
    if any(program.alive() for program in new):
        run.say("the new processes took the file")
        run.stack.tap.port = ports["serve"]
        for name in ports:
            run.stack[name].stop()
    for program in (one for one in new if not one.alive()):
        said = program.tail()
        if not (path.name in said and "session_timeout" in said and "chanels" in said and "Traceback" not in said):
            run.broken.append(f"{program.name} does not say what is wrong with its file: {said[-300:]}")
    run.carried_on()


def _ready_or_gone(program: Program) -> bool:
    return not program.alive() or program.ready()


def _successor(run: Run, name: str, config: Path, port: int) -> Program:
    """With a file of its own."""
    command = ["serve", "--port", str(port)] if name == "serve" else ["worker"]
    own = {"SENTINEL_CONFIG_FILE": str(config), "SENTINEL_WORKER_METRICS_PORT": str(port)}
    needs = run.drill.needs_of(control=run.control)
    environment = run.stack.environment | own
    program = sentinel(f"new-{name}", command, run.stack.folder, environment, port=port, needs=needs)
    program.kept = False
    run.exits.callback(program.stop)
    return program


_PROMETHEUS = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
_LIMITED = tuple(
    {"account_id": f"acc_{n:04}", "alert_type": "CARD_TESTING", "frequency_control": {"max_alerts_per_hour": 3}}
    for n in range(200)
)
_SQLITE = Needs(store="sqlite")

DRILLS: dict[str, Drill] = {
    drill.id: drill
    for drill in (
        Drill(
            "serve",
            "kill -9 `serve` in the middle of a delivery, twice; a supervisor starts it again",
            "the receiver answers 200 before it commits",
            _kill_serve,
            without={"serve": "commit-before-200"},
        ),
        Drill(
            "worker",
            "kill -9 `worker` when Slack has a message and it has not heard so; a supervisor starts it again",
            "what a dead worker had claimed is taken over by nobody",
            _kill_worker,
            Needs(lease=8.0),
            without={"worker": "takeover"},
        ),
        Drill(
            "postgresql",
            "immediate shutdown of PostgreSQL, and 4 s later it is there again",
            "what could not be stored is answered with 200",
            _restart_postgresql,
            Needs(lease=15.0),
            without={"serve": "503"},
        ),
        Drill(
            "sqlite",
            "another process holds the SQLite file for 8 s",
            "what could not be stored is answered with 200",
            _lock_sqlite,
            replace(_SQLITE, lease=15.0),
            without={"serve": "503"},
        ),
        Drill(
            "disk",
            "the file system that the SQLite file is on is full for 6 s",
            "what could not be stored is answered with 200",
            _fill_disk,
            replace(_SQLITE, lease=15.0, small_disk=True),
            without={"serve": "503"},
        ),
        Drill(
            "redis",
            "stop Redis, which gives out the places of frequency limits, until messages have gone out without it",
            "without Redis a delivery fails",
            _stop_redis,
            Needs(redis=True, merchants=_LIMITED),
            without={"serve": "store-for-redis"},
            carries_on=True,
        ),
        Drill(
            "prometheus",
            "stop Prometheus, which has the history for charts, until messages have gone out without it",
            "a message waits until its chart can be drawn",
            _stop_prometheus,
            Needs(prometheus=_PROMETHEUS),
            without={"worker": "text-first"},
            carries_on=True,
            gap=1.0,
        ),
        Drill(
            "alertmanager",
            "stop Alertmanager for longer than a session timeout while attacks go on, and start it again",
            "an Alertmanager that does not answer is taken to hold nothing",
            _stop_alertmanager,
            without={"worker": "doubt"},
        ),
        Drill(
            "llm",
            "the model answers nothing any more, and no connection is closed",
            "a message waits 30 s for its words instead of 2 s",
            _hang_llm,
            Needs(llm=True, config={"summaries": {"budget": "2s"}}),
            carries_on=True,
            control_needs={"config": {"summaries": {"budget": "30s"}}},
        ),
        Drill(
            "slack",
            "Slack answers 500, breaks connections and asks to wait, in turn",
            "a message that Slack did not take is taken for sent",
            _slack_fails,
            without={"worker": "retries"},
        ),
        Drill(
            "clock",
            "alerts come with times seven minutes ahead or behind",
            "the time is what the payload says",
            _skew,
            without={"serve": "own-clock"},
        ),
        Drill(
            "config",
            "deploy a broken configuration file: the new processes say what is wrong with it, the old ones go on",
            "a file is taken whatever is wrong with it",
            _deploy_broken,
            without={"new-serve": "validation", "new-worker": "validation"},
            carries_on=True,
        ),
    )
}
