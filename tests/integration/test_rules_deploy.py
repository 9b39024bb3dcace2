"""Deploying rules into a real Prometheus: what is good stays, anything else leaves it as it was."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from servers import program, wait_for

from webhook.rules import deploy
from webhook.rules.deploy import BACKUPS
from webhook.rules_commands import rules

ALERT = """
      - alert: {name}
        expr: {expr}
        for: 5m
        labels: {{alert_type: OPERATIONS, severity: P3, team: platform}}
        annotations: {{summary: A, description: B, runbook_url: 'https://example.com/a'}}
"""
OTHERS = "groups:\n  - name: others\n    interval: 1s\n    rules:" + ALERT.format(name="Other", expr="up == 0")
HEALTHY = 'up{job="prometheus"} == 0'


def text(*exprs: str) -> str:
    alerts = "".join(ALERT.format(name=f"Tested{number}", expr=expr) for number, expr in enumerate(exprs))
    return f"groups:\n  - name: tested\n    interval: 1s\n    rules:{alerts}"


@dataclass
class Place:
    url: str
    folder: Path
    file: Path

    def deploy(self, content: str, *options: str) -> Result:
        return self.deploy_tested(content, "--without-tests", *options)

    def deploy_tested(self, content: str, *options: str) -> Result:
        self.file.write_text(content)
        command = ["deploy", str(self.file), "--to", str(self.folder), "--prometheus", self.url, *options]
        return CliRunner().invoke(rules, command)

    def group(self) -> dict[str, Any]:
        """The deployed file's, as Prometheus has it."""
        groups = requests.get(f"{self.url}/api/v1/rules", timeout=60).json()["data"]["groups"]
        return next((group for group in groups if group["name"] == "tested"), {"rules": []})

    def running(self) -> dict[str, str]:
        """Health of each rule of the deployed file."""
        return {rule["query"]: rule["health"] for rule in self.group()["rules"]}

    def before(self) -> bool:
        """Whether all is as after the first deployment."""
        content = (self.folder / self.file.name).read_text()
        return content == text(HEALTHY) and set(self.running()) == {HEALTHY}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    from servers import free_port, prometheus

    root, port = tmp_path_factory.mktemp("deploy"), free_port()
    (root / "rules").mkdir()
    (root / "rules" / "others.yml").write_text(OTHERS)
    (root / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules/*.yml]\nscrape_configs:\n"
        f"  - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        f"  - {{job_name: again, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    )
    with prometheus(root / "prometheus.yml", port=port) as url:
        wait_for(lambda: len(query(url, "up")) == 2, what="both targets")
        yield url, root / "rules"


def query(url: str, expr: str) -> list[object]:
    found: list[object] = requests.get(f"{url}/api/v1/query", {"query": expr}, timeout=60).json()["data"]["result"]
    return found


@pytest.fixture
def place(served: tuple[str, Path], tmp_path: Path) -> Place:
    """With a healthy file that was deployed before."""
    place = Place(*served, tmp_path / "tested.yml")
    done = place.deploy(text(HEALTHY))
    assert done.exit_code == 0, done.output
    return place


def test_a_good_file_runs_and_the_one_before_is_kept(place: Place) -> None:
    better = 'up{job="prometheus"} == 0 or up{job="again"} == 0'
    done = place.deploy(text(HEALTHY, better))
    assert done.exit_code == 0, done.output
    assert "2 rules" in done.stderr
    assert place.running() == {HEALTHY: "ok", better: "ok"}
    assert (place.folder / "tested.yml").stat().st_mode & 0o777 == 0o644
    newest = max((place.folder / BACKUPS).glob("tested.yml.*"))
    assert newest.read_text() == text(HEALTHY)
    assert "is as it should be" in place.deploy(text(HEALTHY, better)).stderr
    place.deploy(text(HEALTHY))


def test_what_our_checks_find_is_not_written(place: Place) -> None:
    done = place.deploy(text("sentinel_nothing == 0"))
    assert done.exit_code == 1
    assert "nothing exports sentinel_nothing" in done.stderr
    assert place.before()


def test_what_unit_tests_find_is_not_written(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    tested = {"interval": "1m", "name": "a", "input_series": [{"series": 'up{job="prometheus"}', "values": "0x10"}]}
    tested["alert_rule_test"] = [{"eval_time": "9m", "alertname": "Tested0", "exp_alerts": []}]
    (tmp_path / "tests" / "a.yml").write_text(json.dumps({"rule_files": ["../tested.yml"], "tests": [tested]}))
    done = place.deploy_tested(text(HEALTHY, "up < 1"), "--tests", str(tmp_path / "tests"))
    assert done.exit_code == 1
    assert "unit tests fail" in done.stderr
    assert place.before()


def test_what_no_unit_test_loads_is_not_written(place: Place, tmp_path: Path) -> None:
    for options in ((), ("--tests", str(tmp_path))):
        done = place.deploy_tested(text("up == 0"), *options)
        assert done.exit_code == 1
        assert "no unit test in" in done.stderr
        assert "--without-tests" in done.stderr
        assert place.before()


CHANGES = {
    "severity: P3": "severity: P2",
    "description: B": "description: C",
    "for: 5m": "for: 6m",
    "for: 5m\n": "for: 5m\n        keep_firing_for: 3m\n",
    "interval: 1s": "interval: 2s",
    "interval: 1s\n": "interval: 1s\n    limit: 5\n",
    f"expr: {HEALTHY}": "expr: up == 0",
}


@pytest.mark.parametrize(("old", "new"), CHANGES.items(), ids=[new.strip() for new in CHANGES.values()])
def test_what_stands_in_the_folder_and_does_not_run_yet_is_loaded(place: Place, old: str, new: str) -> None:
    """As after somebody's editor, or a deployment that was killed: the file is as it should be, Prometheus is not."""
    changed = text(HEALTHY).replace(old, new)
    (place.folder / place.file.name).write_text(changed)
    before = place.group()
    done = place.deploy(changed)
    assert done.exit_code == 0, done.output
    assert "loaded at" in done.stderr
    after = place.group()
    assert [before[key] for key in ("interval", "limit")] != [after[key] for key in ("interval", "limit")] or fields(
        before
    ) != fields(after)
    assert "is as it should be" in place.deploy(changed).stderr


def fields(group: dict[str, Any]) -> list[object]:
    names = ("query", "labels", "annotations", "duration", "keepFiringFor")
    return [{name: rule.get(name) for name in names} for rule in group["rules"]]


def test_the_file_that_prometheus_reads_is_no_new_text(place: Place, tmp_path: Path) -> None:
    """What ran before would be written nowhere."""
    (tmp_path / "same").symlink_to(place.folder)
    for folder in (place.folder, tmp_path / "same"):
        deployed = Place(place.url, place.folder, folder / place.file.name)
        broken = text(HEALTHY).replace("up{", "up{{")
        for options in ((), ("--dry-run",)):
            done = deployed.deploy(text(HEALTHY, "up == 0"), *options)
            assert done.exit_code == 1
            assert "the very file that Prometheus reads" in done.stderr
            assert "deploy from there" in done.stderr
        assert deployed.deploy(broken, "--without-promtool").exit_code == 1
        assert set(place.running()) == {HEALTHY}, "nothing was loaded"
    (place.folder / place.file.name).write_text(text(HEALTHY))


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(hours=1)], ids=["behind", "ahead"])
def test_a_clock_that_differs_from_the_one_of_prometheus(
    place: Place, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Skewed:
            moved = datetime.now(tz) + ahead
            return cls.fromtimestamp(moved.timestamp(), UTC)

    monkeypatch.setattr(deploy, "datetime", Skewed)
    done = place.deploy(text(HEALTHY, "up == 2"), "--timeout", "30")
    assert done.exit_code == 0, done.output
    assert place.running()["up == 2"] == "ok", "evaluated since, not before"


def test_what_prometheus_refuses_is_taken_back(place: Place) -> None:
    """A template that only Prometheus looks at; promtool would have seen it."""
    refused = text(HEALTHY).replace("summary: A", "summary: '{{ nosuch 1 }}'")
    done = place.deploy(refused, "--without-promtool")
    assert done.exit_code == 1
    assert "refuses to reload" in done.stderr
    assert "taken back" in done.stderr
    assert place.before()


def test_what_fails_at_its_evaluation_is_taken_back(place: Place) -> None:
    """Two jobs scrape the same instance: only the data show it."""
    done = place.deploy(text(HEALTHY, "prometheus_ready / on (instance) prometheus_build_info > 2"))
    assert done.exit_code == 1
    assert "many-to-many" in done.stderr
    assert "Tested1 fails" in done.stderr
    assert place.before()
    wait_for(lambda: place.running() == {HEALTHY: "ok"}, what="healthy again")


def test_a_first_file_that_fails_is_gone_again(place: Place, tmp_path: Path) -> None:
    place.file = tmp_path / "first.yml"
    done = place.deploy(text("prometheus_ready / on (instance) prometheus_build_info > 2").replace("Tested", "First"))
    assert done.exit_code == 1
    assert not (place.folder / "first.yml").exists()


def test_a_folder_that_prometheus_does_not_read(place: Place, tmp_path: Path) -> None:
    other = Place(place.url, tmp_path / "elsewhere", tmp_path / "unread.yml")
    other.folder.mkdir()
    done = other.deploy(text(HEALTHY).replace("Tested", "Unread"))
    assert done.exit_code == 1
    assert "does not read" in done.stderr
    assert not (other.folder / "unread.yml").exists()


def test_a_dry_run_shows_the_difference_and_writes_nothing(place: Place) -> None:
    done = place.deploy(text("up == 0"), "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"-        expr: {HEALTHY}\n+        expr: up == 0\n" in done.stdout
    assert place.before()


def test_two_at_once(place: Place) -> None:
    with (place.folder / ".deploy.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place.deploy(text("up == 0"))
    assert done.exit_code == 1
    assert "somebody else deploys there" in done.stderr
    assert place.before()


def test_all_of_several_or_none(place: Place, tmp_path: Path) -> None:
    """A second one reads the same folder, and has only one of the two targets: what fails with both is well there."""
    from servers import prometheus

    first = place.url
    (tmp_path / "prometheus.yml").write_text(
        f"global: {{evaluation_interval: 1s}}\nrule_files: ['{place.folder}/*.yml']\n"
    )
    with prometheus(tmp_path / "prometheus.yml") as second:
        other = Place(second, place.folder, place.file)
        both = ("--prometheus", first)
        better = text(HEALTHY, "up == 2")
        done = other.deploy(better, *both)
        assert done.exit_code == 0, done.output
        assert "healthy on each of 2" in done.stderr
        assert place.running() == other.running() == {HEALTHY: "ok", "up == 2": "ok"}
        done = other.deploy(text("prometheus_ready / on (instance) prometheus_build_info > 2"), *both)
        assert done.exit_code == 1
        assert f"{first}: Tested0 fails" in done.stderr
        assert f"{second}: loaded at" in done.stderr
        assert set(place.running()) == set(other.running()) == {HEALTHY, "up == 2"}, "taken back on both"
    done = place.deploy(text("up == 3"), "--prometheus", second)
    assert (done.exit_code, (place.folder / "tested.yml").read_text()) == (1, better), "one of them is away"


@pytest.fixture
def closed(free_port: Callable[[], int], tmp_path: Path) -> Iterator[tuple[Place, str]]:
    """A Prometheus that takes no reload by HTTP, and the command that makes it load."""
    from servers import answers, running

    (tmp_path / "rules").mkdir()
    (tmp_path / "prometheus.yml").write_text("global: {evaluation_interval: 1s}\nrule_files: [rules/*.yml]\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = f"echo $$ >pid; exec {program('prometheus')} --config.file={tmp_path}/prometheus.yml"
    command += f" --storage.tsdb.path={tmp_path}/data --web.listen-address=127.0.0.1:{port}"
    with running(["sh", "-c", command], folder=tmp_path, ready=lambda: answers(f"{url}/-/ready")):
        reload = f"kill -HUP {(tmp_path / 'pid').read_text().strip()}"
        yield Place(url, tmp_path / "rules", tmp_path / "tested.yml"), reload


def test_a_prometheus_that_does_not_reload(closed: tuple[Place, str]) -> None:
    place, _ = closed
    done = place.deploy(text("up == 0"))
    assert done.exit_code == 1
    assert "--web.enable-lifecycle" in done.stderr
    assert "--reload-with" in done.stderr
    assert list(place.folder.iterdir()) == []


def test_a_prometheus_that_reloads_by_a_signal(closed: tuple[Place, str]) -> None:
    place, reload = closed
    done = place.deploy(text(HEALTHY), "--reload-with", reload)
    assert done.exit_code == 0, done.output
    assert place.running() == {HEALTHY: "ok"}
    refused = text(HEALTHY).replace("summary: A", "summary: '{{ nosuch 1 }}'")
    done = place.deploy(refused, "--without-promtool", "--reload-with", reload)
    assert done.exit_code == 1
    assert "refuses to reload" in done.stderr
    assert "taken back" in done.stderr
    assert (place.folder / "tested.yml").read_text() == text(HEALTHY)
    assert requests.get(f"{place.url}/api/v1/status/runtimeinfo", timeout=60).json()["data"]["reloadConfigSuccess"]
    done = place.deploy(text("up == 0"), "--reload-with", "false")
    assert done.exit_code == 2
    assert "false ends with 1" in done.stderr
