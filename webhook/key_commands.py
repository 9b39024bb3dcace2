"""`sentinel-webhook api-key`: who may come in, for what, until when; `vapid-key`: as whom we push to browsers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhook.config_commands import database_in_one_line, fail, settings_or_fail, shell

if TYPE_CHECKING:
    import sqlalchemy as sa


@click.command("vapid-key")
@click.option("--out", type=click.Path(path_type=Path), help="Write the private key there, for nobody else to read.")
def vapid_key(out: Path | None) -> None:
    """Make a key pair for push messages to browsers. The private key is for `channels.webapp.vapid_private_key_file`.

    Browsers have to subscribe anew when it changes; their pages do so by themselves when they are opened.
    """
    from webhook.notifiers.web_push import new_key, public_key  # noqa: PLC0415 - cryptography takes its time

    private = new_key()
    if out is None:
        click.echo(private)
    else:
        try:
            with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{private}\n")
        except OSError as error:
            fail([f"{out}: {os.strerror(error.errno or 0)}"])
    click.echo(f"public key: {public_key(private)}", err=True)


@click.group("api-key")
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
        fail([str(error)])
    with _store() as connection:
        record, key = keys.create_key(connection, new, shell(), now)
    click.echo(f"{record.prefix}: {record.role}, shown this once:", err=True)
    click.echo(key)


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
        click.echo(
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
            record, key = keys.rotate_key(connection, prefix, lasting, shell(), datetime.now(UTC))
    except keys.KeyNotFound:
        fail([f"there is no key {prefix}"])
    except (keys.KeyEnded, keys.KeyReplaced, ValueError) as error:
        fail([str(error)])
    click.echo(f"{record.prefix}: {record.role}, shown this once; {prefix} goes on for {grace}:", err=True)
    click.echo(key)


@api_key.command("revoke")
@click.argument("prefix")
def revoke_api_key(prefix: str) -> None:
    """End the key PREFIX; running processes forget it within seconds."""
    from webhook.storage import keys  # noqa: PLC0415 - other commands do without

    try:
        with _store() as connection:
            keys.revoke_key(connection, prefix, shell(), datetime.now(UTC))
    except keys.KeyNotFound:
        fail([f"there is no key {prefix}"])
    click.echo(f"{prefix} is revoked")


@contextmanager
def _store() -> Iterator[sa.Connection]:
    settings = settings_or_fail()
    from webhook.storage.database import Database  # noqa: PLC0415 - takes its time, and help does without

    with database_in_one_line(), Database(settings.database_url.get_secret_value()).write() as connection:
        yield connection


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
