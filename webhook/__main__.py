"""The command line: serve, worker, migrate, config, rules, api-key, vapid-key, test-channel."""

from __future__ import annotations

import os
import socket
import tempfile

import click

from webhook.channel_commands import test_channel
from webhook.config import ConfigError
from webhook.config_commands import config, database_in_one_line, fail, settings_or_fail
from webhook.key_commands import api_key, vapid_key
from webhook.rules_commands import rules


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
@click.option("--down-to", metavar="REVISION", help="Go back; what only newer schemas hold is dropped.")
def migrate(down_to: str | None) -> None:
    """Bring the database to the newest schema."""
    url = settings_or_fail().database_url.get_secret_value()
    from webhook.storage import migrations  # noqa: PLC0415 - Alembic is for this command alone

    with database_in_one_line():
        try:
            migrations.upgrade(url) if down_to is None else migrations.downgrade(url, down_to)
        except (migrations.ForeignKeysBroken, migrations.UnknownRevision) as error:
            fail([f"nothing was changed: {error}"])
    print("the database is up to date" if down_to is None else f"the database is at {down_to}")


main.add_command(config)
main.add_command(api_key)
main.add_command(rules)
main.add_command(test_channel)
main.add_command(vapid_key)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        fail([f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"])


if __name__ == "__main__":
    main()
