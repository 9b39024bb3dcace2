"""The command line's `config`: import, export, rotate-keys, new-key."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from webhook.config import ConfigError, Settings, load_settings

if TYPE_CHECKING:
    from webhook.domain.configuration import Difference
    from webhook.domain.evaluation import MerchantConfig
    from webhook.storage.configs import ConfigStore

_WHO = "command line"


@click.group()
def config() -> None:
    """Merchant configurations."""


@config.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the difference, field by field, and write nothing.")
@click.option("--prune", is_flag=True, help="Delete configurations that FILE does not name, of the accounts it names.")
def import_(file: Path, *, dry_run: bool, prune: bool) -> None:
    """Take the merchant configurations of a YAML FILE, all or none; what it does not name stays as it is."""
    settings = settings_or_fail()
    from webhook.web.config_file import ConfigFileError, read_config_file  # noqa: PLC0415 - other commands do without

    try:
        configs = read_config_file(file, allow_http=settings.insecure_webhooks)
    except ConfigFileError as error:
        fail(error.problems)
    with _problems_in_one_line():
        store = _store(settings)
        completed, gone, lines = _compare(store, file, configs, prune=prune)
        if dry_run:
            click.echo("\n".join(lines) or "no difference")
            return
        _write(store, completed, gone)


def _compare(
    store: ConfigStore, file: Path, configs: Sequence[MerchantConfig], *, prune: bool
) -> tuple[list[MerchantConfig], list[MerchantConfig], list[str]]:
    """The configurations without masks, those to be deleted, and the difference as lines."""
    from webhook.domain.configuration import difference  # noqa: PLC0415 - other commands do without
    from webhook.ports import UnknownMasks  # noqa: PLC0415 - as above

    completed, lines, problems = [], [], []
    for item in configs:
        try:
            whole, known = store.completed(item)
        except UnknownMasks as error:
            problems += [
                f"{file}: {item.account_id} {item.alert_type}: {place}: is a mask of nothing that is stored"
                for place in error.places
            ]
            continue
        completed.append(whole)
        changes = difference(known.config if known else None, whole)
        if changes:
            lines += [f"{'changed' if known else 'added'} {whole.account_id} {whole.alert_type}", *map(_line, changes)]
    if problems:
        fail(problems)
    gone = _unnamed(store, configs) if prune else []
    lines += [f"removed {item.account_id} {item.alert_type}" for item in gone]
    return completed, gone, lines


def _unnamed(store: ConfigStore, configs: Sequence[MerchantConfig]) -> list[MerchantConfig]:
    named = {(item.account_id, item.alert_type) for item in configs}
    stored = store.stored(accounts={item.account_id for item in configs})
    return [item.config for item in stored if (item.config.account_id, item.config.alert_type) not in named]


def _write(store: ConfigStore, configs: Sequence[MerchantConfig], gone: Sequence[MerchantConfig]) -> None:
    from webhook.domain.access import Principal, Role  # noqa: PLC0415 - other commands do without

    who, now = Principal(_WHO, Role.ADMIN, _WHO), datetime.now(UTC)
    changes = [saved.change for saved in store.save(configs, who, now)]
    for item in gone:
        store.delete(item.account_id, item.alert_type, who, now, expected=item.version)
    told = [f"{changes.count(kind)} {kind}" for kind in ("created", "updated", "unchanged")]
    click.echo(", ".join(told + ([f"{len(gone)} removed"] if gone else [])))


def _line(change: Difference) -> str:
    def shown(value: Any) -> str:  # noqa: ANN401 - any JSON
        return "-" if value is None else repr(value)

    return f"  {change.path}: {shown(change.before)} -> {shown(change.after)}"


@config.command("export")
@click.option("--account", "accounts", multiple=True, help="Only of this account; may be given several times.")
@click.option("--with-secrets", is_flag=True, help="In plain text. Without it they are masked, and come back as kept.")
def export(accounts: Sequence[str], *, with_secrets: bool) -> None:
    """Print the merchant configurations as YAML that `config import` takes."""
    settings = settings_or_fail()
    from dataclasses import replace  # noqa: PLC0415 - beside the others

    from webhook.domain.masking import masked  # noqa: PLC0415 - other commands do without
    from webhook.web.config_file import write_config_file  # noqa: PLC0415 - as above

    with _problems_in_one_line():
        found = [item.config for item in _store(settings).stored(accounts=accounts or None)]
    if not with_secrets:
        found = [replace(item, channel_preferences=masked(item.channel_preferences)) for item in found]
    click.echo(write_config_file(found), nl=False)


@config.command("rotate-keys")
def rotate_keys() -> None:
    """Encrypt every stored secret anew, with the first of SENTINEL_ENCRYPTION_KEYS."""
    settings = settings_or_fail()
    from webhook.domain.access import Principal, Role  # noqa: PLC0415 - other commands do without
    from webhook.storage.database import Database  # noqa: PLC0415 - as above
    from webhook.storage.rotation import rotate_secrets  # noqa: PLC0415 - as above

    with _problems_in_one_line():
        database = Database(settings.database_url.get_secret_value())
        changed = rotate_secrets(database, settings.secret_box, Principal(_WHO, Role.ADMIN, _WHO), datetime.now(UTC))
    click.echo(", ".join(f"{number} rows of {table}" for table, number in changed.items()))


@config.command("new-key")
def make_key() -> None:
    """Print a key for SENTINEL_ENCRYPTION_KEYS."""
    from webhook.adapters.secrets import new_key  # noqa: PLC0415 - other commands do without

    click.echo(new_key())


def _store(settings: Settings) -> ConfigStore:
    from webhook.storage.configs import ConfigStore  # noqa: PLC0415 - other commands do without
    from webhook.storage.database import Database  # noqa: PLC0415 - as above

    return ConfigStore(Database(settings.database_url.get_secret_value()), settings.secret_box)


def settings_or_fail(require: Iterable[str] = ()) -> Settings:
    try:
        return load_settings(require=require)
    except ConfigError as error:
        fail(error.problems)


@contextmanager
def _problems_in_one_line() -> Iterator[None]:
    from webhook.ports import SecretUnreadable, StoreUnavailable  # noqa: PLC0415 - help does without

    with database_in_one_line():
        try:
            yield
        except SecretUnreadable as error:
            fail([f"secrets cannot be read or stored: {error}"])
        except StoreUnavailable as error:
            fail([str(error)])


@contextmanager
def database_in_one_line() -> Iterator[None]:
    import sqlalchemy as sa  # noqa: PLC0415 - takes its time, and help does without

    try:
        yield
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        fail([f"the database cannot be used: {reason}"])


def fail(problems: Iterable[str]) -> NoReturn:
    for line in problems:
        click.echo(f"sentinel-webhook: {line}", err=True)
    sys.exit(1)
