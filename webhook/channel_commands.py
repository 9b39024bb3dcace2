"""`sentinel-webhook test-channel`: what a channel would send, and whether a message gets there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from webhook.config_commands import fail, settings_or_fail

if TYPE_CHECKING:
    from webhook.config import Settings
    from webhook.ports import Notifier
    from webhook.web.channel_trial import Asked, ChannelTrial


@click.command("test-channel")
@click.argument("name")
@click.option("--account", help="With the settings of this account's configuration …")
@click.option("--type", "alert_type", help="… for this alert type.")
@click.option("--settings", "given", help="With these settings, as JSON; - reads them from standard input.")
@click.option("--show", is_flag=True, help="Only show what an attack would look like there; send nothing.")
def test_channel(name: str, account: str | None, alert_type: str | None, given: str | None, *, show: bool) -> None:
    """Try the channel NAME with a message that says it is a test. Exit code 1 when it is not taken."""
    if (account is None) != (alert_type is None) or (account is not None and given is not None):
        fail(["give --account and --type together, or --settings, or none of them"])
    settings = settings_or_fail()
    from webhook.web.channel_trial import Asked  # noqa: PLC0415 - heavy, other commands do without

    asked = Asked(name, account or "", alert_type or "", None if given is None else _json(given))
    notifier, trial, now = _notifier(settings, name), _trial(settings), datetime.now(UTC)
    chosen = _settings(trial, asked)
    _show(trial, notifier, asked, now)
    if show:
        return
    tried = trial.send(notifier, chosen, asked, now)
    if not tried.delivered:
        fail([f"{name}: not delivered: {tried.words}"])
    reference = f", {tried.reference}" if tried.reference else ""
    click.echo(f"{name}: delivered: {tried.words}{reference}")


def _json(text: str) -> Mapping[str, Any]:
    text = sys.stdin.read() if text == "-" else text
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        fail(["--settings: is no JSON object"])
    return found


def _notifier(settings: Settings, name: str) -> Notifier:
    from webhook.channels import try_channels  # noqa: PLC0415 - as above
    from webhook.notifiers.registry import CHANNELS  # noqa: PLC0415 - as above

    built = try_channels(settings)
    if name not in CHANNELS:
        fail([f"there is no channel {name}; there are {', '.join(CHANNELS)}"])
    if name not in built.notifiers:
        fail([f"{name} is not set up: {built.problems[name]}"])
    return built.notifiers[name]


def _trial(settings: Settings) -> ChannelTrial:
    from webhook.notifiers.outgoing import check_hosts  # noqa: PLC0415 - as above
    from webhook.storage.configs import ConfigStore  # noqa: PLC0415 - as above
    from webhook.storage.database import Database  # noqa: PLC0415 - as above
    from webhook.web.channel_trial import ChannelTrial  # noqa: PLC0415 - as above

    def check(channels: Mapping[str, Mapping[str, Any]]) -> None:
        if not settings.insecure_webhooks:
            check_hosts(channels)

    database = Database(settings.database_url.get_secret_value())
    click.get_current_context().call_on_close(database.close)
    store = ConfigStore(database, settings.secret_box)
    return ChannelTrial(store, settings.public_url, check, allow_http=settings.insecure_webhooks)


def _settings(trial: ChannelTrial, asked: Asked) -> Mapping[str, Any]:
    from webhook.config_commands import database_in_one_line  # noqa: PLC0415 - as above
    from webhook.notifiers.outgoing import ForbiddenAddress  # noqa: PLC0415 - as above
    from webhook.ports import ConfigNotFound  # noqa: PLC0415 - as above
    from webhook.web.channel_trial import BadSettings  # noqa: PLC0415 - as above

    with database_in_one_line():
        try:
            return trial.settings(asked)
        except ConfigNotFound:
            fail([f"the configuration {asked.account_id} {asked.alert_type} does not choose {asked.channel}"])
        except (BadSettings, ForbiddenAddress) as error:
            fail([str(error)])


def _show(trial: ChannelTrial, notifier: Notifier, asked: Asked, now: datetime) -> None:
    shown = trial.preview(notifier, asked, now)
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
