"""Commands beside running: `check`, `test-source` and `schema`.

Exit codes: 0 done, 1 the configuration has errors, 2 the command is wrong, 3 the source, or the exporter to compare
with, could not be read, 130 interrupted.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exporter import logs
from exporter.collectors.base import SourceConfig
from exporter.config import ExporterConfig, load, notices
from exporter.environment import Secrets
from exporter.errors import CollectError, ConfigError, Unreachable
from exporter.model import parse_duration

if TYPE_CHECKING:  # only `test-source` tries a source
    from exporter.try_source import Trial

_CONFIG_WRONG, _FAILED, _INTERRUPTED = 1, 3, 130
_NARROWEST = 80
_REWIND = "\r\x1b[K"


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE...")
def check(files: tuple[Path, ...]) -> None:
    """Check configuration files: all errors at once, exit code 1 if there are any."""
    wrong = False
    for file in files:
        try:
            config = load(file)
        except ConfigError as error:
            click.echo(str(error), err=True)
            wrong = True
            continue
        for notice in notices(config, os.environ):
            click.echo(f"warning: {notice}")
        click.echo(f"{file}: ok, {_tally(config)}")
    if wrong:
        sys.exit(_CONFIG_WRONG)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from exporter.schema import config_schema  # noqa: PLC0415 - the other commands do without

    click.echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))


@click.command("test-source")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--rows", default=5, show_default=True, type=click.IntRange(min=0), help="Show so many rows.")
@click.option("--full", is_flag=True, help="Show the whole exposition, not the first lines of each family.")
@click.option("--against", metavar="URL", help="Compare with the exporter there. Default: the configuration's address.")
@click.option("--no-compare", is_flag=True, help="Compare with no running exporter.")
@click.option(
    "--wait", type=_Duration(), default=0.0, help="Collect again for so long (30s) until there are rows: for Kafka."
)
def test_source(
    file: Path, name: str, *, rows: int, full: bool, against: str | None, no_compare: bool, wait: float
) -> None:
    """Run one source once, and show what it would serve, what that costs, and what would change.

    It may be one that is not enabled yet. Nothing is served and nothing is kept.
    """
    from exporter.trial_report import printable, report  # noqa: PLC0415 - the other commands do without

    if against is not None and not against.startswith(("http://", "https://")):
        raise click.BadParameter("begin it with http:// or https://", param_hint="--against")
    config = loaded(file)
    source = _named(config, name)
    logs.configure("WARNING")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    trial = _tried(source, wait)
    encoding = (sys.stdout.encoding or "ascii").lower()
    width = max(_NARROWEST, shutil.get_terminal_size((120, 24)).columns)

    def tell(lines: Iterable[str]) -> None:
        for line in lines:
            text = printable(line, trial.secrets)
            click.echo(text.encode(encoding, "replace").decode(encoding) if encoding != "utf-8" else text)

    tell(report(trial, source, rows=rows, full=full, width=width))
    if not len(trial.frame) and source.type == "kafka" and not wait:
        tell(["", "no message has arrived yet: wait for some with --wait 30s"])
    if not no_compare:
        _compare(config, name, trial, against, tell)


def loaded(file: Path) -> ExporterConfig:
    """The configuration, or its errors on stderr and exit code 1."""
    try:
        return load(file)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(_CONFIG_WRONG)


def _tally(config: ExporterConfig) -> str:
    metrics = sum(len(source.metrics) for source in config.enabled)
    off = len(config.sources) - len(config.enabled)
    return f"{len(config.enabled)} sources, {metrics} metrics" + (f", {off} disabled" if off else "")


def _named(config: ExporterConfig, name: str) -> SourceConfig:
    sources = {source.name: source for source in config.sources}
    if name not in sources:
        near = difflib.get_close_matches(name, sources, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sources)}"
        raise click.BadParameter(f"no source has this name; {hint}", param_hint="NAME")
    return sources[name]


def _tried(source: SourceConfig, wait: float) -> Trial:
    """What the run brought; otherwise its error on stderr and the exit code for it."""
    from exporter.trial_report import failed, measured, printable  # noqa: PLC0415 - the other commands do without
    from exporter.try_source import SourceTrial  # noqa: PLC0415 - the other commands do without

    trial = SourceTrial(source, _progress(source))
    try:
        return trial.run(wait)
    except CollectError as error:
        lines = [*failed(source.name, error), *measured(trial.collection.measures)]
        code = _FAILED
    except KeyboardInterrupt:
        lines, code = [f"{source.name}: interrupted, the source was told to stop"], _INTERRUPTED
    finally:
        if sys.stderr.isatty():
            click.echo(_REWIND, err=True, nl=False)
    for line in lines:
        click.echo(printable(line, trial.collection.secrets), err=True)
    sys.exit(code)


def _progress(source: SourceConfig) -> Callable[[float], None]:
    """Says how long it has taken so far, on a terminal only."""

    def show(seconds: float) -> None:
        if sys.stderr.isatty() and seconds >= 1:
            text = f"{_REWIND}collecting {source.name}: {seconds:.0f} s (timeout {source.run_timeout:.0f} s)"
            click.echo(text, err=True, nl=False)

    return show


def _compare(
    config: ExporterConfig, name: str, trial: Trial, against: str | None, tell: Callable[[Iterable[str]], None]
) -> None:
    """Tell the difference. That nothing answers is an error only where one was asked to compare."""
    from exporter.difference import difference  # noqa: PLC0415 - the other commands do without
    from exporter.running_exporter import own_address, served, without_user  # noqa: PLC0415 - needs requests
    from exporter.trial_report import differences  # noqa: PLC0415 - the other commands do without

    url = without_user(against or own_address(config.server))
    try:
        before = served(against or url, name, config.server, Secrets())
    except Unreachable as error:
        if against is not None:
            click.echo(f"not compared: {error}", err=True)
            sys.exit(_FAILED)
        tell(["", f"not compared: {error}"])
        return
    if not before:
        tell(["", f"{url} serves nothing of this source yet"])
        return
    tell(differences(difference(before, trial.text), url))
