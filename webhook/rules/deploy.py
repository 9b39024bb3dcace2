"""A rule file into a running Prometheus: written whole, loaded, watched until it is healthy, else taken back.

DeployError            nothing has changed, or all is as it was before
└── NotTakenBackError  it is not: the text says what is where
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import promql_parser

from webhook.adapters.prometheus_api import PrometheusApi, PrometheusError, RunningGroup
from webhook.rules.document import RuleFile, parse
from webhook.rules.promql import text_of

BACKUPS = ".backups"
"""In the folder of the rules; its files do not end as rule files do."""

_KEPT = 10
_LOCK = ".deploy.lock"
_PAUSE = 0.2

Say = Callable[[str], None]


class DeployError(Exception):
    pass


class NotTakenBackError(DeployError):
    pass


@dataclass(frozen=True, slots=True)
class Deployment:
    """`timeout` in seconds, or None for as long as two evaluations of the slowest group take, and a minute."""

    api: PrometheusApi
    folder: Path
    say: Say
    timeout: float | None = None

    def preflight(self) -> None:
        """Raise DeployError where it could not be loaded, whatever the file."""
        flags = self.api.flags()
        if flags.get("web.enable-lifecycle") != "true":
            raise DeployError(f"{self.api.url} cannot be told to reload: start Prometheus with --web.enable-lifecycle")
        well, _ = self.api.loaded()
        if not well:
            raise DeployError(f"{self.api.url} could not load its configuration the last time: correct that first")
        if not os.access(self.folder, os.W_OK):
            raise DeployError(f"{self.folder} cannot be written to")

    def run(self, name: str, text: str) -> None:
        """Write `text` as that file; raise DeployError with everything as before, or NotTakenBackError."""
        target, file = self.folder / name, parse(text, name)
        self.preflight()
        with _locked(self.folder):
            before = target.read_text("utf-8") if target.exists() else None
            if before == text and not _differences(file, _of_file(self.api.groups(), name), since=None):
                self.say(f"{target} is as it should be, and runs")
                return
            backup = _back_up(self.folder, name, before)
            self.say(f"before: {backup}" if backup else f"before: there was no {target}")
            try:
                _write(target, text)
                self._load(file, name)
            except BaseException as error:
                self._take_back(target, before, backup, error)
                if isinstance(error, (DeployError, PrometheusError, OSError)):
                    raise DeployError(f"{_why(error)}; taken back, Prometheus runs what it ran before") from None
                raise
            self.say(f"deployed: {_counted(file)} of {target} healthy")

    def _load(self, file: RuleFile, name: str) -> None:
        since = datetime.now(UTC)
        self.api.reload()
        _, loaded = self.api.loaded()
        self.say(f"loaded at {loaded:%H:%M:%S} UTC, waiting for the first evaluation")
        groups = _of_file(self.api.groups(), name)
        if file.groups and not groups:
            raise DeployError(f"Prometheus does not read {self.folder / name}: look at rule_files in its configuration")
        slowest = max((group.interval for group in groups), default=0.0)
        deadline = time.monotonic() + (self.timeout or 2 * slowest + 60)
        while True:
            groups = _of_file(self.api.groups(), name)
            for group in groups:
                for rule in group.rules:
                    if rule.health == "err" or rule.error:
                        raise DeployError(f"{rule.name} fails: {rule.error}")
            missing = _differences(file, groups, since)
            if not missing:
                return
            if time.monotonic() > deadline:
                raise DeployError(f"not healthy in time: {'; '.join(missing[:3])}")
            time.sleep(_PAUSE)

    def _take_back(self, target: Path, before: str | None, backup: Path | None, error: BaseException) -> None:
        """Raise NotTakenBackError."""
        try:
            if before is None:
                target.unlink(missing_ok=True)
            else:
                _write(target, before)
            self.api.reload()
            well, _ = self.api.loaded()
        except (OSError, PrometheusError) as second:
            kept = f"the rules from before are in {backup}" if backup else f"remove {target}"
            raise NotTakenBackError(f"{_why(error)}; and taking it back failed: {_why(second)}; {kept}") from None
        if not well:
            raise NotTakenBackError(f"{_why(error)}; {target} is as before, but Prometheus does not load it")


def _differences(file: RuleFile, groups: Sequence[RunningGroup], since: datetime | None) -> list[str]:
    """What of the file does not run as it is written, or was not evaluated since then."""
    running = {group.name: group for group in groups}
    found = [f"the group {name} still runs" for name in running.keys() - {group.name.text for group in file.groups}]
    for group in file.groups:
        there = running.get(group.name.text)
        if there is None:
            found.append(f"the group {group.name.text} does not run")
            continue
        wanted = [(rule.name.text, _spelled(rule.expr.text), rule.duration("for")) for rule in group.rules]
        if wanted != [(rule.name, _spelled(rule.query), rule.duration) for rule in there.rules]:
            found.append(f"the group {group.name.text} runs other rules")
        found += [f"{rule.name} is {rule.health}" for rule in there.rules if rule.health != "ok" or rule.error]
        if since is not None and (there.evaluated is None or there.evaluated < since) and group.rules:
            found.append(f"the group {group.name.text} has not been evaluated since")
    return found


def _spelled(query: str) -> str:
    try:
        return text_of(promql_parser.parse(query))
    except ValueError:
        return "".join(query.split())


def _of_file(groups: Sequence[RunningGroup], name: str) -> list[RunningGroup]:
    """Those of the file of this name: Prometheus may know its folder by another path."""
    return [group for group in groups if PurePosixPath(group.file).name == name]


def _counted(file: RuleFile) -> str:
    return f"{len(file.rules)} rule{'s' if len(file.rules) != 1 else ''}"


def _why(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _write(target: Path, text: str) -> None:
    """Whole or not at all, with the rights that the file had."""
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def _back_up(folder: Path, name: str, text: str | None) -> Path | None:
    """The newest are kept."""
    if text is None:
        return None
    backups = folder / BACKUPS
    backups.mkdir(exist_ok=True)
    path = backups / f"{name}.{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    path.write_text(text, "utf-8")
    for old in sorted(backups.glob(f"{name}.*"))[:-_KEPT]:
        with suppress(OSError):
            old.unlink()
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raise DeployError while another one deploys there; the lock ends with its process, however that ends."""
    with (folder / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise DeployError(f"somebody else deploys there: {file.read().strip() or 'another process'}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        file.flush()
        yield
