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
from pathlib import Path

from webhook.adapters.prometheus_api import PrometheusApi, PrometheusError
from webhook.rules.document import RuleFile, parse
from webhook.rules.reloading import DeployError, reload_with
from webhook.rules.running import default_interval, differences, failing, of_file, unhealthy, unseen

BACKUPS = ".backups"
"""In the folder of the rules; its files do not end as rule files do."""

_KEPT = 10
_LOCK = ".deploy.lock"
_PAUSE = 0.2

Say = Callable[[str], None]


class NotTakenBackError(DeployError):
    pass


@dataclass(frozen=True, slots=True)
class Deployment:
    """Into a folder that one Prometheus reads, or several.

    `timeout` in seconds, or None for as long as two evaluations of the slowest group take, and a minute. `command`
    makes all of them reload, where they do not by HTTP.
    """

    apis: Sequence[PrometheusApi]
    folder: Path
    say: Say
    timeout: float | None = None
    command: str | None = None

    def preflight(self, file: Path) -> None:
        """Raise DeployError where it could not be loaded, whatever is in the file."""
        if (target := self.folder / file.name).exists() and target.samefile(file):
            raise DeployError(
                f"it is the very file that Prometheus reads, so what runs now is written nowhere else and could not be"
                f" put back: keep the new text in a folder of your own, put {target} back as it was, and deploy from"
                " there"
            )
        for api in self.apis:
            if self.command is None and api.flags().get("web.enable-lifecycle") != "true":
                raise DeployError(
                    f"{api.url} cannot be told to reload: start Prometheus with --web.enable-lifecycle, or give"
                    " --reload-with a command that sends it SIGHUP"
                )
            if not api.loaded()[0]:
                raise DeployError(f"{api.url} could not load its configuration the last time: correct that first")
        if not os.access(self.folder, os.W_OK):
            raise DeployError(f"{self.folder} cannot be written to")

    def run(self, source: Path, text: str) -> None:
        """Write `text` under its name; raise DeployError with everything as before, or NotTakenBackError."""
        name = source.name
        target, file = self.folder / name, parse(text, name)
        self.preflight(source)
        with _locked(self.folder):
            before = target.read_text("utf-8") if target.exists() else None
            if before == text and all(self._runs(api, file, name) for api in self.apis):
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
            self.say(f"deployed: {_counted(file)} of {target} healthy{self._where()}")

    def _where(self) -> str:
        return f" on each of {len(self.apis)}" if len(self.apis) > 1 else ""

    def _runs(self, api: PrometheusApi, file: RuleFile, name: str) -> bool:
        groups = of_file(api.groups(), name)
        return not (unseen(file) or differences(file, groups, default_interval(api)) or unhealthy(groups))

    def _load(self, file: RuleFile, name: str) -> None:
        since = [api.now() for api in self.apis]
        self._reload()
        for api, before in zip(self.apis, since, strict=True):
            self._healthy(api, file, name, before)

    def _reload(self) -> None:
        if self.command is None:
            for api in self.apis:
                api.reload()
        else:
            reload_with(self.command, self.apis)

    def _healthy(self, api: PrometheusApi, file: RuleFile, name: str, since: datetime) -> None:
        """Wait until it is; raise DeployError. `since` by the clock of that Prometheus."""
        on = f"{api.url}: " if len(self.apis) > 1 else ""
        _, loaded = api.loaded()
        self.say(f"{on}loaded at {loaded:%H:%M:%S} UTC, waiting for the first evaluation")
        groups, usual = of_file(api.groups(), name), default_interval(api)
        if file.groups and not groups:
            raise DeployError(
                f"{on}Prometheus does not read {self.folder / name}: look at rule_files in its configuration"
            )
        slowest = max((group.interval for group in groups), default=0.0)
        deadline = time.monotonic() + (self.timeout or 2 * slowest + 60)
        while True:
            groups = of_file(api.groups(), name)
            if why := failing(groups, since):
                raise DeployError(f"{on}{why}")
            missing = [*differences(file, groups, usual), *unhealthy(groups, since)]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise DeployError(f"{on}not healthy in time: {'; '.join(missing[:3])}")
            time.sleep(_PAUSE)

    def _take_back(self, target: Path, before: str | None, backup: Path | None, error: BaseException) -> None:
        """Of all of them, though one may be away; raise NotTakenBackError."""
        problems: list[str] = []
        try:
            if before is None:
                target.unlink(missing_ok=True)
            else:
                _write(target, before)
            problems = self._loaded_again()
        except (OSError, DeployError, PrometheusError) as second:
            problems.append(_why(second))
        if problems:
            kept = f"the rules from before are in {backup}" if backup else f"{target} was not there before"
            raise NotTakenBackError(
                f"{_why(error)}; and taking it back failed: {'; '.join(problems)}; {kept}"
            ) from None

    def _loaded_again(self) -> list[str]:
        """Where that failed, and why; raise DeployError."""
        if self.command is not None:
            reload_with(self.command, self.apis)
        problems = []
        for api in self.apis:
            try:
                if self.command is None:
                    api.reload()
                if not api.loaded()[0]:
                    problems.append(f"{api.url} does not load what it ran before")
            except PrometheusError as error:
                problems.append(_why(error))
        return problems


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
