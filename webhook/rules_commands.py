"""`sentinel-webhook rules`: check what an analyst wrote, see what it would have fired on, deploy it."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhook.config_commands import fail

if TYPE_CHECKING:
    from webhook.adapters.prometheus_api import PrometheusApi
    from webhook.rules.check import Wanted
    from webhook.rules.deploy import Deployment
    from webhook.rules.finding import Finding
    from webhook.rules.known import Metrics

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_prometheus = click.option(
    "--prometheus",
    "url",
    metavar="URL",
    envvar="SENTINEL_PROMETHEUS_URL",
    default="http://127.0.0.1:9090",
    show_default=True,
)
_config = click.option("--config", type=FILE, help="The exporter's configuration: what it exports is known.")
_beside = click.option(
    "--beside", type=FILE, multiple=True, help="Another file that Prometheus reads too; only looked up."
)
_tests = click.option("--tests", type=FOLDER, help="Where unit tests stand; `../tests` beside the rules without it.")


@click.group()
def rules() -> None:
    """Prometheus' rules: check, backtest and deploy them. docs/rules.md says how they are written."""


@rules.command("check")
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@_config
@_beside
@_tests
@click.option("--prometheus", "url", metavar="URL", help="Metrics that this Prometheus has are known.")
@click.option("--without-promtool", is_flag=True, help="Only our own checks, where Prometheus is not installed.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def check(
    files: Sequence[Path],
    config: Path | None,
    beside: Sequence[Path],
    tests: Path | None,
    url: str | None,
    *,
    without_promtool: bool,
    as_json: bool,
) -> None:
    """Look for mistakes in rule files, all of which Prometheus would read together. Exit code 1 on errors."""
    from webhook.rules.check import Wanted, errors, summary  # noqa: PLC0415 - other commands do without

    wanted = Wanted(_known(config, *([url] if url else [])), beside, tests, promtool=not without_promtool)
    found = _findings(files, wanted)
    if as_json:
        click.echo(json.dumps([finding.document() for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(_shown(finding))
        if not wanted.metrics.complete:
            click.echo("not checked: which metrics exist; give --config or --prometheus", err=True)
        click.echo(summary(found, len(files)))
    sys.exit(1 if errors(found) else 0)


@rules.command("backtest")
@click.argument("file", type=FILE)
@click.option("--days", type=click.FloatRange(0, min_open=True), default=7, show_default=True, help="How far back.")
@_prometheus
@click.option("--step", help="Evaluate this often, e.g. 5m, instead of at each group's interval: faster, coarser.")
@_beside
@click.option("--json", "as_json", is_flag=True, help="Every time that a rule would have fired, as JSON.")
def backtest(file: Path, days: float, url: str, step: str | None, beside: Sequence[Path], *, as_json: bool) -> None:
    """What the alerts of FILE would have done over the past days, beside what the rules that run now did."""
    from webhook.rules import backtest_report  # noqa: PLC0415 - other commands do without
    from webhook.rules.backtest import DAY, Backtester, Period  # noqa: PLC0415 - as above
    from webhook.rules.document import read  # noqa: PLC0415 - as above

    read_file = read(file)
    if read_file.problems:
        fail([f"{each.place}: {each.message}: {each.hint}" for each in read_file.problems])
    every = _milliseconds(step) if step else None
    end = time.time_ns() // 1_000_000
    with _prometheus_at(url) as api:
        tester = Backtester(api, Period(end - round(days * DAY), end), step=every, progress=_Progress())
        result = tester.run(read_file, [read(path) for path in beside])
    if as_json:
        click.echo(json.dumps(backtest_report.document(result), indent=2))
    else:
        click.echo("\n".join(backtest_report.table(result)))
    sys.exit(1 if any(each.problem for each in result.tested) else 0)


@rules.command("deploy")
@click.argument("file", type=FILE)
@click.option("--to", "folder", type=FOLDER, required=True, help="Where Prometheus reads its rules.")
@click.option(
    "--prometheus",
    "urls",
    metavar="URL",
    envvar="SENTINEL_PROMETHEUS_URL",
    multiple=True,
    default=["http://127.0.0.1:9090"],
    show_default=True,
    help="Of each Prometheus that reads this folder; may be given several times.",
)
@_config
@_tests
@click.option("--without-promtool", is_flag=True, help="Without Prometheus' own check and unit tests.")
@click.option("--without-tests", is_flag=True, help="Although no unit test loads FILE.")
@click.option("--reload-with", "command", metavar="COMMAND", help="What sends SIGHUP, where HTTP is closed to reloads.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait for it to be healthy.")
@click.option("--dry-run", is_flag=True, help="Check it, show the difference, and write nothing.")
def deploy(  # noqa: PLR0917 - click gives them by name
    file: Path,
    folder: Path,
    urls: Sequence[str],
    config: Path | None,
    tests: Path | None,
    command: str | None,
    timeout: float | None,
    *,
    without_promtool: bool,
    without_tests: bool,
    dry_run: bool,
) -> None:
    """Check and test FILE, write it, load it, and wait until it is healthy everywhere; else all is as before.

    FILE is the new text, in another folder than the one that Prometheus reads.

    Exit code 1 when it is not deployed, 2 when what was there before could not be put back.
    """
    from webhook.rules.check import Wanted, errors  # noqa: PLC0415 - other commands do without
    from webhook.rules.deploy import Deployment  # noqa: PLC0415 - as above

    others = [path for path in sorted(folder.glob("*.y*ml")) if path.name != file.name]
    text = file.read_text("utf-8")
    found = _findings([file], Wanted(_known(config, *urls), others, tests, promtool=not without_promtool))
    for finding in found:
        click.echo(_shown(finding), err=True)
    if errors(found):
        fail([f"{file} is not deployed: it has errors"])
    if not (without_promtool or without_tests):
        _must_be_tested(file, tests)
    with ExitStack() as stack:
        apis = [stack.enter_context(_prometheus_at(url)) for url in dict.fromkeys(urls)]
        if file.read_text("utf-8") != text:
            fail([f"{file} is not deployed: it was changed while it was checked; run it again"])
        deployment = Deployment(apis, folder, lambda line: click.echo(line, err=True), timeout, command)
        _carry_out(deployment, file, text, dry_run=dry_run)


def _carry_out(deployment: Deployment, file: Path, text: str, *, dry_run: bool) -> None:
    from webhook.rules.deploy import NotTakenBackError  # noqa: PLC0415 - other commands do without
    from webhook.rules.reloading import DeployError  # noqa: PLC0415 - as above

    for number in (signal.SIGTERM, signal.SIGHUP):  # stopped, or its terminal is gone: what is half done is taken back
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        if dry_run:
            deployment.preflight(file)
            click.echo("".join(_difference(deployment.folder / file.name, file, text)) or "no difference\n", nl=False)
        else:
            deployment.run(file, text)
    except DeployError as error:
        click.echo(f"sentinel-webhook: {file} is not deployed: {error}", err=True)
        sys.exit(2 if isinstance(error, NotTakenBackError) else 1)


def _must_be_tested(file: Path, tests: Path | None) -> None:
    from webhook.rules.promtool import tests_folder, tests_of  # noqa: PLC0415 - other commands do without

    if not tests_of(file, tests):
        hint = f"no unit test in {tests_folder(file, tests)} has it among its rule_files: write one (docs/rules.md)"
        fail([f"{file} is not deployed: {hint}, give --tests, or --without-tests"])


def _difference(target: Path, file: Path, text: str) -> Iterator[str]:
    import difflib  # noqa: PLC0415 - other commands do without

    before = target.read_text("utf-8").splitlines(keepends=True) if target.exists() else []
    return difflib.unified_diff(before, text.splitlines(keepends=True), str(target), str(file))


class _Progress:
    """On standard error: one line that is written over, on a terminal; a line for each rule elsewhere."""

    def __call__(self, rule: str, done: int, whole: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{rule}: {done / max(whole, 1):.0%}", err=True, nl=done >= whole)
        elif done >= whole:
            click.echo(f"{rule}: asked", err=True)


def _known(config: Path | None, *urls: str) -> Metrics:
    from webhook.rules.known import ConfigUnreadableError, Metrics, family, own_metrics, source_metrics  # noqa: PLC0415

    every = list(own_metrics())
    for url in urls:
        with _prometheus_at(url) as api:
            every += [metric for name, kind in api.metric_types().items() for metric in family(name, kind, None)]
    if config:
        try:
            every += source_metrics(config)
        except ConfigUnreadableError as error:
            fail([str(error)])
    return Metrics(every, complete=bool(config or urls))


def _findings(files: Sequence[Path], wanted: Wanted) -> list[Finding]:
    from webhook.rules.check import check_paths  # noqa: PLC0415 - other commands do without
    from webhook.rules.promtool import PromtoolMissingError  # noqa: PLC0415 - as above

    try:
        return check_paths(files, wanted)
    except PromtoolMissingError:
        fail(["promtool is not installed: install Prometheus, or give --without-promtool"])


def _shown(finding: Finding) -> str:
    level = click.style(finding.level.value, fg="red" if finding.level == "error" else "yellow", bold=True)
    rule = f"{click.style(finding.rule, bold=True)}: " if finding.rule else ""
    return f"{finding.place}: {level}: {rule}{finding.message} [{finding.check}]\n    {finding.hint}"


@contextmanager
def _prometheus_at(url: str) -> Iterator[PrometheusApi]:
    """What goes wrong with it ends the command with one line."""
    from webhook.adapters.prometheus_api import PrometheusApi, PrometheusError  # noqa: PLC0415 - help does without

    api = PrometheusApi(url)
    try:
        yield api
    except PrometheusError as error:
        fail([str(error)])
    finally:
        api.close()


def _milliseconds(text: str) -> int:
    from webhook.rules.document import seconds  # noqa: PLC0415 - other commands do without

    try:
        found = round(seconds(text) * 1000)
    except ValueError:
        found = 0
    if found <= 0:
        fail([f"--step: {text!r} is no duration: write 30s or 5m"])
    return found
