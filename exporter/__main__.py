"""Command line of the exporter: `sentinel-exporter --config FILE`; the other commands are in `exporter.commands`.

Exit codes: 0 done or stopped, 1 the configuration has errors, 2 it cannot be served (the address is taken, a
certificate or credential cannot be used) or the command is wrong.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
from pathlib import Path
from typing import Any

import click

from exporter import commands, logs
from exporter.allocators import return_freed_memory
from exporter.app import Exporter
from exporter.config import ExporterConfig, load
from exporter.errors import CannotServe, ConfigError, ExporterError
from exporter.self_metrics import package_version
from exporter.shard import Shard


class _ShardType(click.ParamType[Shard]):
    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:  # noqa: ANN401 - click's
        try:
            return value if isinstance(value, Shard) else Shard.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_options = (
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="SENTINEL_EXPORTER_CONFIG",
        help="The configuration file.",
        show_envvar=True,
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        envvar="SENTINEL_EXPORTER_PORT",
        help="Listen on this port instead of the configuration's.",
        show_envvar=True,
    ),
    click.option(
        "--shard",
        type=_ShardType(),
        envvar="SENTINEL_EXPORTER_SHARD",
        help="Take part i of the sources, of n parts that as many exporters take; the first is 0/n.",
        show_envvar=True,
    ),
)


def _with_options(command: Any) -> Any:  # noqa: ANN401 - click's decorators
    for option in reversed(_options):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.version_option(package_version(), prog_name="sentinel-exporter")
@_with_options
@click.pass_context
def main(context: click.Context, config_file: Path | None, port: int | None, shard: Shard | None) -> None:
    """Pull business data from where it lives and serve it to Prometheus."""
    if context.invoked_subcommand is None:
        _run(config_file, port, shard)
    else:
        context.obj = config_file, port, shard


@main.command()
@_with_options
@click.pass_context
def run(context: click.Context, config_file: Path | None, port: int | None, shard: Shard | None) -> None:
    """Run until stopped (the default)."""
    outer_file, outer_port, outer_shard = context.obj
    _run(config_file or outer_file, outer_port if port is None else port, shard or outer_shard)


for _command in (commands.check, commands.test_source, commands.schema):
    main.add_command(_command)


def _run(file: Path | None, port: int | None, shard: Shard | None) -> None:
    if file is None:
        raise click.UsageError("--config FILE is missing")
    path = file
    return_freed_memory()

    def loaded() -> ExporterConfig:
        config = load(path)
        return config if port is None else config.listening_on(port)

    try:
        config = loaded()
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    logs.configure(config.server.log_level)
    try:
        exporter = Exporter(config, shard=shard, load=loaded)
    except CannotServe as error:
        click.echo(f"sentinel-exporter: {error}", err=True)
        sys.exit(2)
    received: queue.SimpleQueue[int] = queue.SimpleQueue()  # a signal may arrive while one is being put
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: received.put(got))
    exporter.start()
    while _next(received) == signal.SIGHUP:
        with contextlib.suppress(ExporterError):  # told in the log
            exporter.reload()
    exporter.stop()


def _next(received: queue.SimpleQueue[int]) -> int:
    """The next signal. A wait without end is not interrupted by one that came just before it began to wait."""
    while True:
        with contextlib.suppress(queue.Empty):
            return received.get(timeout=1.0)


if __name__ == "__main__":
    main()
