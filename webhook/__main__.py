"""The command line: serve, worker, migrate, config."""

from __future__ import annotations

import os
import socket
import tempfile

import click

from webhook.config import ConfigError
from webhook.config_commands import config, database_in_one_line, fail, settings_or_fail


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
    settings = settings_or_fail(require=("ingest_token", "admin_token", "secret_key"))
    listener = _listen(host, port)
    if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="sentinel-metrics-")
    from webhook.server import run  # noqa: PLC0415 - prometheus_client reads the variable above when it is imported

    run(settings, listener, workers=workers, threads=threads)


@main.command()
def worker() -> None:
    """Send notifications and settle sessions."""
    settings = settings_or_fail()
    from webhook.worker import run  # noqa: PLC0415 - charts and channels are heavy, other commands do without

    try:
        run(settings)
    except ConfigError as error:
        fail(error.problems)


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = settings_or_fail()
    from webhook.storage.migrations import upgrade  # noqa: PLC0415 - Alembic is for this command alone

    with database_in_one_line():
        upgrade(settings.database_url.get_secret_value())
    print("the database is up to date")


main.add_command(config)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        fail([f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"])


if __name__ == "__main__":
    main()
