"""The command line's `config`: import, export, rotate-keys, new-key."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from webhook.config import ConfigError, Settings, load_settings

if TYPE_CHECKING:
    from webhook.domain.access import Principal
    from webhook.domain.configuration import Difference
    from webhook.domain.evaluation import MerchantConfig
    from webhook.domain.masking import Channels
    from webhook.ports import Secrets
    from webhook.storage.configs import ConfigStore


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
    check = _no_check if settings.insecure_webhooks else _host_check()
    with _store(settings) as store:
        lines = _compare(store, file, configs, check)
        gone = _unnamed(store, configs) if prune else []
        if dry_run:
            lines += [f"removed {item.account_id} {item.alert_type}" for item in gone]
            click.echo("\n".join(lines) or "no difference")
            return
        _write(store, configs, gone)


def _no_check(_: Channels) -> None: ...


def _host_check() -> Callable[[Channels], None]:
    """Looks each host up once."""
    from webhook.notifiers.outgoing import check_hosts, resolve  # noqa: PLC0415 - other commands do without

    return partial(check_hosts, lookup=cache(resolve))


def _compare(
    store: ConfigStore, file: Path, configs: Sequence[MerchantConfig], check: Callable[[Channels], None]
) -> list[str]:
    """The difference as lines; fails where a mask or an address cannot be taken."""
    from webhook.domain.configuration import difference  # noqa: PLC0415 - other commands do without
    from webhook.notifiers.outgoing import ForbiddenAddress  # noqa: PLC0415 - as above
    from webhook.ports import UnknownMasks  # noqa: PLC0415 - as above

    lines, problems, who = [], [], shell()
    for item in configs:
        name = f"{item.account_id} {item.alert_type}"
        try:
            whole, known = store.completed(item, who)
            check(whole.channel_preferences)
        except UnknownMasks as error:
            problems += [f"{file}: {name}: {place}: {why}" for place, why in error.problems.items()]
        except ForbiddenAddress as error:
            problems.append(f"{file}: {name}: {error}")
        else:
            changes = difference(known.config if known else None, whole)
            lines += [f"{'changed' if known else 'added'} {name}", *map(_line, changes)] if changes else []
    if problems:
        fail(problems)
    return lines


def _unnamed(store: ConfigStore, configs: Sequence[MerchantConfig]) -> list[MerchantConfig]:
    named = {(item.account_id, item.alert_type) for item in configs}
    stored = store.stored(accounts={item.account_id for item in configs})
    return [item.config for item in stored if (item.config.account_id, item.config.alert_type) not in named]


def _write(store: ConfigStore, configs: Sequence[MerchantConfig], gone: Sequence[MerchantConfig]) -> None:
    done = store.save(configs, shell(), datetime.now(UTC), gone=gone)
    changes = [saved.change for saved in done]
    for written, saved in zip(configs, done, strict=True):
        if saved.webhook_secret:
            where = f"{written.account_id} {written.alert_type}"
            click.echo(f"signing secret of the webhook of {where}, shown this once: {saved.webhook_secret}")
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

    with _store(settings) as store:
        found = [item.config for item in store.stored(accounts=accounts or None)]
    if with_secrets:
        _all_opened(found, settings.secret_box)
    else:
        found = [replace(item, channel_preferences=masked(item.channel_preferences)) for item in found]
    click.echo(write_config_file(found), nl=False)


def _all_opened(found: Iterable[MerchantConfig], secrets: Secrets) -> None:
    """Fail, naming each secret that none of the keys opens: another installation could not either."""
    from webhook.domain.masking import change_secrets  # noqa: PLC0415 - other commands do without
    from webhook.ports import SecretUnreadable  # noqa: PLC0415 - as above

    problems = []
    for item in found:
        for channel, settings in item.channel_preferences.items():

            def opened(field: str, text: str, place: str = f"{item.account_id} {item.alert_type}: {channel}") -> str:
                try:
                    return secrets.decrypt(text)
                except SecretUnreadable as error:
                    problems.append(f"{place}.{field}: {error}")
                    return text

            change_secrets({channel: settings}, opened)
    if problems:
        fail([*problems, "nothing was exported: add the key it was, or leave --with-secrets out"])


@config.command("rotate-keys")
def rotate_keys() -> None:
    """Encrypt every stored secret anew, with the first of SENTINEL_ENCRYPTION_KEYS."""
    settings = settings_or_fail()
    from webhook.storage.rotation import rotate_secrets  # noqa: PLC0415 - other commands do without

    with _store(settings) as store:
        changed = rotate_secrets(store.database, store.secrets, shell(), datetime.now(UTC))
    click.echo(", ".join(f"{number} rows of {table}" for table, number in changed.items()))


@config.command("new-key")
def make_key() -> None:
    """Print a key for SENTINEL_ENCRYPTION_KEYS."""
    from webhook.adapters.secrets import new_key  # noqa: PLC0415 - other commands do without

    click.echo(new_key())


@contextmanager
def _store(settings: Settings) -> Iterator[ConfigStore]:
    """What goes wrong with it ends the command with one line."""
    from webhook.storage.configs import ConfigStore  # noqa: PLC0415 - other commands do without
    from webhook.storage.database import Database  # noqa: PLC0415 - as above

    with _problems_in_one_line(), closing(Database(settings.database_url.get_secret_value())) as database:
        yield ConfigStore(database, settings.secret_box)


def shell() -> Principal:
    """Whoever may read the database's password may do all."""
    from webhook.domain.access import Principal, Role  # noqa: PLC0415 - other commands do without

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return Principal(f"{user}@{socket.gethostname()}", Role.ADMIN, "command line")


def settings_or_fail(require: Iterable[str] = ()) -> Settings:
    try:
        return load_settings(require=require)
    except ConfigError as error:
        fail(error.problems)


@contextmanager
def _problems_in_one_line() -> Iterator[None]:
    from webhook import ports  # noqa: PLC0415 - help does without

    with database_in_one_line():
        try:
            yield
        except ports.SecretUnreadable as error:
            fail([f"secrets cannot be read or stored: {error}"])
        except ports.ConfigNotFound as error:
            fail([f"nothing was changed: {error} has been deleted meanwhile"])
        except (ports.VersionConflict, ports.UnknownMasks, ports.StoreUnavailable) as error:
            fail([f"nothing was changed: {error}"])


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
