"""The command line: serve, worker, migrate, config import."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from webhook.config import ConfigError, Settings, load_settings


@click.group()
def main() -> None:
    """Sentinel's webhook: receives alerts, decides, and tells the merchants. Settings: SENTINEL_* variables."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--threads", default=16, show_default=True, type=click.IntRange(1), help="Per process.")
def serve(host: str, port: int, workers: int, threads: int) -> None:
    """Receive alerts and show the pages."""
    settings = _settings(require=("ingest_token", "admin_token", "secret_key"))
    listener = _listen(host, port)
    if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="sentinel-metrics-")
    from webhook.server import run  # noqa: PLC0415 - prometheus_client reads the variable above when it is imported

    run(settings, listener, workers=workers, threads=threads)


@main.command()
def worker() -> None:
    """Send notifications and settle sessions."""
    settings = _settings()
    from webhook.worker import run  # noqa: PLC0415 - charts and channels are heavy, other commands do without

    try:
        run(settings)
    except ConfigError as error:
        _fail(error.problems)


@main.command()
@click.option("--down-to", metavar="REVISION", help="Go back; what only newer schemas hold is dropped.")
def migrate(down_to: str | None) -> None:
    """Bring the database to the newest schema."""
    url = _settings().database_url.get_secret_value()
    from webhook.storage import migrations  # noqa: PLC0415 - Alembic is for this command alone

    with _database_in_one_line():
        try:
            migrations.upgrade(url) if down_to is None else migrations.downgrade(url, down_to)
        except (migrations.ForeignKeysBroken, migrations.UnknownRevision) as error:
            _fail([f"nothing was changed: {error}"])
    print("the database is up to date" if down_to is None else f"the database is at {down_to}")


@main.group()
def config() -> None:
    """Merchant configurations."""


@config.command("import")
@click.argument("file", type=click.Path(path_type=Path))
def import_(file: Path) -> None:
    """Take the merchant configurations of a YAML FILE; what it does not name stays as it is."""
    settings = _settings()
    from webhook.notifiers.registry import CHANNELS  # noqa: PLC0415 - other commands do without
    from webhook.storage.config_file import ConfigFileError, read_config_file  # noqa: PLC0415 - as above
    from webhook.storage.configs import save_configs  # noqa: PLC0415 - as above
    from webhook.storage.database import Database  # noqa: PLC0415 - as above

    try:
        configs = read_config_file(file, CHANNELS)
    except ConfigFileError as error:
        _fail(error.problems)
    with _database_in_one_line():
        changes = save_configs(Database(settings.database_url.get_secret_value()), configs, datetime.now(UTC))
    print(", ".join(f"{changes[kind]} {kind}" for kind in ("created", "updated", "unchanged")))


def _settings(require: Iterable[str] = ()) -> Settings:
    try:
        return load_settings(require=require)
    except ConfigError as error:
        _fail(error.problems)


@contextmanager
def _database_in_one_line() -> Iterator[None]:
    import sqlalchemy as sa  # noqa: PLC0415 - takes its time, and help does without

    try:
        yield
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        _fail([f"the database cannot be used: {reason}"])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        _fail([f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"])


def _fail(problems: Iterable[str]) -> NoReturn:
    for line in problems:
        print(f"sentinel-webhook: {line}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
