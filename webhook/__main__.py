"""The command line: serve, worker, migrate, config import, api-key."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from webhook.config import ConfigError, Settings, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from webhook.domain.access import Principal


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


@main.group("api-key")
def api_key() -> None:
    """Keys for programs and people: who may come in, for what, until when."""


@api_key.command("create")
@click.option("--name", required=True, help="Who or what holds it.")
@click.option("--role", required=True, type=click.Choice(["admin", "ops", "merchant"]))
@click.option("--account", "accounts", multiple=True, help="Of a merchant; give it for each of its accounts.")
@click.option("--expires", help="After how long, e.g. 90d or 12h; never without it.")
def create_api_key(name: str, role: str, accounts: tuple[str, ...], expires: str | None) -> None:
    """Make a key. It is printed this once."""
    from webhook.domain.access import Role  # noqa: PLC0415 - other commands do without
    from webhook.storage import keys  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    try:
        new = keys.NewKey(name, Role(role), accounts, None if expires is None else now + _lasting(expires))
    except ValueError as error:
        _fail([str(error)])
    with _store() as connection:
        record, key = keys.create_key(connection, new, _shell(), now)
    print(f"{record.prefix}: {record.role}, shown this once:", file=sys.stderr)
    print(key)


@api_key.command("list")
def list_api_keys() -> None:
    """All keys, newest first."""
    from webhook.storage import keys  # noqa: PLC0415 - other commands do without

    now = datetime.now(UTC)
    with _store() as connection:
        found = keys.list_keys(connection)
    for record in found:
        expires = f"{record.expires_at:%Y-%m-%d}" if record.expires_at else "never"
        used = f"{record.last_used_at:%Y-%m-%dT%H:%MZ}" if record.last_used_at else "never"
        accounts = ",".join(record.account_ids) or "-"
        print(
            f"{record.prefix}  {record.state(now):<7}  {record.role:<8}  expires {expires:<10}  used {used:<17}  "
            f"{accounts}  {record.name}"
        )


@api_key.command("rotate")
@click.argument("prefix")
@click.option("--grace", default="24h", show_default=True, help="For how long the old key goes on.")
def rotate_api_key(prefix: str, grace: str) -> None:
    """A new key with the rights and the lifetime of PREFIX, which ends after a while."""
    from webhook.storage import keys  # noqa: PLC0415 - other commands do without

    try:
        lasting = _lasting(grace)
        with _store() as connection:
            record, key = keys.rotate_key(connection, prefix, lasting, _shell(), datetime.now(UTC))
    except keys.KeyNotFound:
        _fail([f"there is no key {prefix}"])
    except (keys.KeyEnded, ValueError) as error:
        _fail([str(error)])
    print(f"{record.prefix}: {record.role}, shown this once; {prefix} goes on for {grace}:", file=sys.stderr)
    print(key)


@api_key.command("revoke")
@click.argument("prefix")
def revoke_api_key(prefix: str) -> None:
    """End the key PREFIX; running processes forget it within seconds."""
    from webhook.storage import keys  # noqa: PLC0415 - other commands do without

    try:
        with _store() as connection:
            keys.revoke_key(connection, prefix, _shell(), datetime.now(UTC))
    except keys.KeyNotFound:
        _fail([f"there is no key {prefix}"])
    print(f"{prefix} is revoked")


@contextmanager
def _store() -> Iterator[sa.Connection]:
    settings = _settings()
    from webhook.storage.database import Database  # noqa: PLC0415 - takes its time, and help does without

    with _database_in_one_line(), Database(settings.database_url.get_secret_value()).write() as connection:
        yield connection


def _shell() -> Principal:
    """Whoever may read the database's password may do all."""
    from webhook.domain.access import Principal, Role  # noqa: PLC0415 - other commands do without

    return Principal(f"{getpass.getuser()}@{socket.gethostname()}", Role.ADMIN, "command line")


def _lasting(text: str) -> timedelta:
    """`90d`, or what durationpy reads; raise ValueError."""
    import durationpy  # noqa: PLC0415 - other commands do without

    days, unit = text[:-1], text[-1:]
    try:
        lasting = timedelta(days=int(days)) if unit == "d" and days.isdigit() else durationpy.from_str(text)
    except (durationpy.DurationError, OverflowError):
        raise ValueError(f"{text!r} is no duration: write 90d or 12h") from None
    if lasting < timedelta(0):
        raise ValueError(f"{text!r} is past")
    return lasting


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
