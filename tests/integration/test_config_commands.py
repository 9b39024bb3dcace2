"""`sentinel-webhook config`: what it writes, refuses and prints, in one process with the tests."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from ingest_shop import START
from stores import migrate

from webhook.adapters.secrets import SecretBox
from webhook.config_commands import config
from webhook.domain.access import SYSTEM_PRINCIPAL
from webhook.domain.evaluation import MerchantConfig
from webhook.storage.access_tables import audit_log
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.tables import alert_config, alert_config_version

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
HOOK, PHONES = "https://hooks.slack.com/services/T0/B0/verysecretabcd", ["+1200000890", "+1300000890"]
CHANNELS = {"slack": {"enabled": True, "webhook_url": HOOK}, "sms": {"enabled": True, "phone_numbers": PHONES}}
FIRST = f"""\
- account_id: acc_1
  alert_type: CARD_TESTING
  channels: {{slack: {{webhook_url: "{HOOK}"}}, sms: {{phone_numbers: ["{PHONES[0]}", "{PHONES[1]}"]}}}}
- {{account_id: acc_1, alert_type: VELOCITY_ATTACK}}
- {{account_id: acc_2, alert_type: CARD_TESTING}}
"""
ONLY_ONE = "- {account_id: acc_1, alert_type: CARD_TESTING, logic: any}\n"


@dataclass
class Shell:
    database: Database
    folder: Path

    def __call__(self, *words: str, text: str | None = None) -> Result:
        """Run a command; `text` is the file that it imports."""
        if text is not None:
            path = self.folder / "merchants.yaml"
            path.write_text(text)
            words = (words[0], str(path), *words[1:])
        result = CliRunner().invoke(config, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def stored(self) -> list[MerchantConfig]:
        return [item.config for item in ConfigStore(self.database, SecretBox([NEW, OLD])).stored()]

    def rows(self, table: sa.Table) -> Sequence[sa.Row[Any]]:
        with self.database.read() as connection:
            return connection.execute(sa.select(table)).all()


@pytest.fixture
def shell(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    migrate(store_url)
    monkeypatch.setenv("SENTINEL_DATABASE_URL", store_url)
    monkeypatch.setenv("SENTINEL_ENCRYPTION_KEYS", OLD)
    monkeypatch.setattr("webhook.notifiers.outgoing.resolve", lambda *_: ["8.8.8.8"])
    database = Database(store_url)
    yield Shell(database, tmp_path)
    database.close()


def test_an_import_is_written_and_audited_under_the_name_of_its_user(shell: Shell) -> None:
    result = shell("import", text=FIRST)
    assert (result.exit_code, result.output) == (0, "3 created, 0 updated, 0 unchanged\n")
    assert [item.channel_preferences for item in shell.stored()] == [CHANNELS, {}, {}]
    assert HOOK not in repr(shell.rows(alert_config)) + repr(shell.rows(audit_log))
    user = f"{getpass.getuser()}@{socket.gethostname()}"
    assert {(row.actor, row.authenticated_as) for row in shell.rows(audit_log)} == {(user, "command line")}
    assert {row.updated_by for row in shell.rows(alert_config)} == {user}


def test_what_is_exported_comes_back_as_it_was_secrets_too(shell: Shell) -> None:
    shell("import", text=FIRST)
    exported = shell("export").output
    assert "verysecret" not in exported
    assert PHONES[0] not in exported
    assert shell("import", "--dry-run", text=exported).output == "no difference\n"
    assert shell("import", text=exported).output == "0 created, 0 updated, 3 unchanged\n"
    shell("import", text=exported.replace("logic: all", "logic: any"))
    assert [item.channel_preferences for item in shell.stored()] == [CHANNELS, {}, {}]
    assert {item.logic for item in shell.stored()} == {"any"}


def test_an_export_with_secrets_is_whole_in_another_installation(shell: Shell) -> None:
    shell("import", text=FIRST)
    masked, plain = shell("export").output, shell("export", "--with-secrets").output
    assert HOOK in plain
    assert shell("export", "--account", "acc_2").output.count("account_id") == 1
    with shell.database.write() as connection:
        connection.execute(sa.delete(alert_config_version))
        connection.execute(sa.delete(alert_config))
    refused = shell("import", text=masked)
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 2)
    assert "acc_1 CARD_TESTING: channels.slack.webhook_url: is a mask of nothing" in refused.output
    assert shell.stored() == []
    assert shell("import", text=plain).exit_code == 0
    assert shell.stored()[0].channel_preferences == CHANNELS


def test_a_dry_run_shows_the_difference_and_writes_nothing(shell: Shell) -> None:
    shell("import", text=FIRST)
    result = shell("import", "--dry-run", "--prune", text=ONLY_ONE)
    lines = result.output.splitlines()
    assert (lines[0], lines[-1]) == ("changed acc_1 CARD_TESTING", "removed acc_1 VELOCITY_ATTACK")
    assert sorted(lines[1:-1]) == [  # PostgreSQL keeps objects in an order of its own
        "  channels.slack.enabled: True -> -",
        "  channels.slack.webhook_url: 'https://hooks.slack.com/…abcd' -> -",
        "  channels.sms.enabled: True -> -",
        "  channels.sms.phone_numbers: ['+1******890', '+1******890'] -> -",
        "  channels: - -> {}",
        "  logic: 'all' -> 'any'",
    ]
    assert len(shell.rows(audit_log)) == 3


def test_prune_deletes_what_the_file_leaves_out_of_the_accounts_it_names(shell: Shell) -> None:
    shell("import", text=FIRST)
    result = shell("import", "--prune", text=ONLY_ONE)
    assert result.output == "0 created, 1 updated, 0 unchanged, 1 removed\n"
    assert [(item.account_id, item.alert_type) for item in shell.stored()] == [
        ("acc_1", "CARD_TESTING"),
        ("acc_2", "CARD_TESTING"),
    ]


def change_it(store: ConfigStore) -> None:
    store.save([MerchantConfig("acc_1", "VELOCITY_ATTACK", logic="any")], SYSTEM_PRINCIPAL, START)


def delete_it(store: ConfigStore) -> None:
    store.delete("acc_1", "VELOCITY_ATTACK", SYSTEM_PRINCIPAL, START)


@pytest.mark.parametrize(
    ("meanwhile", "told"), [(change_it, "changed meanwhile: its version is now 2"), (delete_it, "deleted meanwhile")]
)
def test_a_prune_that_meets_another_change_changes_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[ConfigStore], None], told: str
) -> None:
    """Somebody is faster between reading what is to be deleted and deleting it."""
    shell("import", text=FIRST)
    save = ConfigStore.save

    def slow(store: ConfigStore, *given: Any, **more: Any) -> Any:
        monkeypatch.setattr(ConfigStore, "save", save)
        meanwhile(ConfigStore(shell.database, SecretBox([OLD])))
        return save(store, *given, **more)

    monkeypatch.setattr(ConfigStore, "save", slow)
    result = shell("import", "--prune", text=ONLY_ONE)
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert result.output.startswith("sentinel-webhook: nothing was changed: acc_1 VELOCITY_ATTACK has ")
    assert told in result.output
    assert shell.stored()[0].logic == "all", "what was to be saved in the same transaction"


def test_a_webhook_that_leads_inside_is_refused_unless_all_are_allowed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.notifiers.outgoing.resolve", lambda *_: ["10.0.0.1"])
    refused = shell("import", text=FIRST)
    assert refused.exit_code == 1
    assert re.fullmatch(
        r"sentinel-webhook: \S+: acc_1 CARD_TESTING: channels.slack.webhook_url: "
        r"hooks.slack.com leads to a private or local address\n",
        refused.output,
    )
    assert shell.stored() == []
    monkeypatch.setenv("SENTINEL_INSECURE_WEBHOOKS", "true")
    assert shell("import", text=FIRST).exit_code == 0


@pytest.mark.parametrize("text", ["- {account_id: a, alert_type: b, snooze_until: 2025-13-45}", "[" * 3000, "{"])
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_file_that_cannot_be_read_is_told_in_one_line(shell: Shell, text: str) -> None:
    result = shell("import", text=text)
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)


def test_keys_are_rotated_under_the_name_of_who_does_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("import", text=FIRST)
    monkeypatch.setenv("SENTINEL_ENCRYPTION_KEYS", f"{NEW},{OLD}")
    told = shell("rotate-keys").output
    assert told == (
        "1 rows of alert_config, 1 rows of alert_config_version, 0 rows of notification, 0 rows of push_subscription\n"
    )
    monkeypatch.setenv("SENTINEL_ENCRYPTION_KEYS", NEW)
    assert HOOK in shell("export", "--with-secrets").output
    (row,) = [row for row in shell.rows(audit_log) if row.details == {"table": "alert_config", "rows": 1}]
    assert (row.action, row.actor) == ("keys_rotated", f"{getpass.getuser()}@{socket.gethostname()}")
    monkeypatch.setenv("SENTINEL_ENCRYPTION_KEYS", OLD)
    refused = shell("rotate-keys")
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)
    assert "is not among SENTINEL_ENCRYPTION_KEYS" in refused.output


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_secrets_that_no_key_opens_are_not_exported_as_they_rest(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("import", text=FIRST)
    monkeypatch.setenv("SENTINEL_ENCRYPTION_KEYS", NEW)
    result = shell("export", "--with-secrets")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "acc_1 CARD_TESTING: slack.webhook_url: it was encrypted at 20" in result.stderr
    assert "not among SENTINEL_ENCRYPTION_KEYS, nor made of SENTINEL_SECRET_KEY" in result.stderr
    assert result.stderr.count("sms.phone_numbers") == len(PHONES)
    assert shell("export", "--with-secrets", "--account", "acc_2").exit_code == 0, "it has no secrets"
    monkeypatch.delenv("SENTINEL_ENCRYPTION_KEYS")
    assert "SENTINEL_ENCRYPTION_KEYS or SENTINEL_SECRET_KEY must be set" in shell("export", "--with-secrets").stderr


def test_a_new_key_is_one(shell: Shell) -> None:
    assert SecretBox([shell("new-key").output.strip()]).encrypt("x").startswith("enc:")
