"""The pages of messages, figures and the audit log: what is told, what staff may do, and what a merchant sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from flask.testing import FlaskClient
from ingest_shop import save_configs
from page_reading import page, shown, token_in

from webhook.domain.access import Role
from webhook.domain.action import DismissReason, Doing
from webhook.domain.evaluation import MerchantConfig
from webhook.storage.database import Database
from webhook.storage.delivery_tables import pace
from webhook.storage.tables import notification

DEAD = "/notifications/dead"
CONTENT = {"severity": "P1", "occurrence_count": 12, "metrics": {"block_rate": 0.35}, "thresholds": {"block_rate": 0.2}}


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Site]:
    """The whole application over SQLite: who may do what makes no difference to the database."""
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings={"rate_limit_address": "off"})
    yield site
    site.close()


def letter(database: Database, alert_id: str, account: str = OWN, *, channel: str = "slack", priority: int = 2) -> str:
    found = rows.insert_notification(
        database, alert_id, channel=channel, status="FAILED", retries=5, error="no_service"
    )
    with database.write() as connection:
        changed = {"account_id": account, "priority": priority, "content": CONTENT}
        connection.execute(sa.update(notification).where(notification.c.id == found).values(**changed))
    return found


def statuses(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(connection.scalars(sa.select(notification.c.status)))


def press(client: FlaskClient, kind: str, **fields: str) -> str:
    """A button of the dead letters: what is shown then."""
    token = token_in(page(client, "/alerts"))
    answer = client.post(f"{DEAD}/{kind}", data={"csrf_token": token, **fields})
    return shown(page(client, answer.location) if answer.status_code == 303 else answer.text)


def test_a_message_tells_what_it_said_where_it_went_and_what_went_wrong(
    client: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database, merchant_name="Café Zürich")
    letter(database, alert_id)
    rows.insert_notification(database, alert_id, channel="console", at=rows.NOW - timedelta(minutes=2))
    text = shown(page(client, "/notifications"))
    for said in (
        "Slack P1 Critical First message",
        "12 triggers, Block rate 35 % (limit 20 %)",
        "5 failed tries",
        "no_service",
    ):
        assert said in text.replace("35.0 %", "35 %")
    assert text.index("Console") < text.rindex("no_service"), "the newest first"


def test_filters_of_messages_combine_and_are_walked(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    letter(database, alert_id, "acc_a", priority=3)
    letter(database, alert_id, "acc_a", channel="sms")
    rows.insert_notification(database, alert_id, channel="slack")
    for query, number in (("", 3), ("?account=acc_a", 2), ("?severity=P0", 1), ("?channel=slack&status=FAILED", 1)):
        assert f"{number} shown" in page(client, f"/notifications{query}"), query
    assert "No message matches" in page(client, "/notifications?account=acc_b")
    for _ in range(60):
        rows.insert_notification(database, alert_id, at=rows.NOW - timedelta(hours=3))
    older = page(client, "/notifications").split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "13 shown" in page(client, older)


def test_letters_are_counted_and_sent_again_over_each_database(client: FlaskClient, database: Database) -> None:
    alert_id, dismissed = rows.insert_alert(database), rows.insert_alert(database, account_id="acc_d")
    for account in ("acc_a", "acc_a", "acc_b"):
        letter(database, alert_id, account)
    letter(database, dismissed, "acc_a")
    rows.NotedActions(database).dismiss(dismissed, DismissReason.OTHER, "", Doing("ana", rows.ADMIN, rows.NOW))
    asked = press(client, "replay", account="acc_a")
    assert "Send 3 dead letters again?" in asked
    assert statuses(database) == ["FAILED"] * 4
    done = press(client, "replay", account="acc_a", confirmed="yes", count="3")
    assert "2 messages queued" in done
    assert "1 not sent again: its alert was dismissed" in done
    assert statuses(database) == ["FAILED"] * 2 + ["PENDING"] * 2


def test_all_of_a_filter_are_asked_for_with_their_number(ours: Site) -> None:
    for account in (OWN, OWN, FOREIGN):
        letter(ours.database, ours.own, account)
    ops = ours.logged_in(ours.keys[Role.OPS])
    assert "Discard 2 dead letters?" in press(ops, "discard", account=OWN)
    letter(ours.database, ours.own)
    again = press(ops, "discard", account=OWN, confirmed="yes", count="2")
    assert "Discard 3 dead letters?" in again
    assert "it was 2" in again
    assert statuses(ours.database) == ["FAILED"] * 4
    assert "3 messages discarded" in press(ops, "discard", account=OWN, confirmed="yes", count="3")
    assert statuses(ours.database) == ["FAILED"]
    assert "Dead letters discarded" in shown(page(ops, "/audit"))


def test_one_letter_is_sent_again_at_once_and_discarded_after_a_question(ours: Site) -> None:
    first, second = (letter(ours.database, ours.own, channel="console") for _ in range(2))
    ops = ours.logged_in(ours.keys[Role.OPS])
    assert "1 message queued" in press(ops, "replay", letter=first)
    assert "Nothing was changed" in press(ops, "replay", letter=first)
    assert "Discard 1 dead letter?" in press(ops, "discard", letter=second)
    assert statuses(ours.database) == ["FAILED", "PENDING"]
    assert "1 message discarded" in press(ops, "discard", letter=second, confirmed="yes", count="1")


@pytest.mark.parametrize("wrong", [{"letter": "no-id"}, {"severity": "P9"}, {"channels": "slack"}])
def test_a_form_that_is_not_understood_touches_no_letter(ours: Site, wrong: dict[str, str]) -> None:
    letter(ours.database, ours.own)
    press(ours.logged_in(ours.keys[Role.OPS]), "discard", confirmed="yes", count="1", **wrong)
    assert statuses(ours.database) == ["FAILED"]


def test_a_merchant_reads_its_own_letters_and_can_do_nothing_about_them(ours: Site) -> None:
    mine = letter(ours.database, ours.own, channel="console")
    letter(ours.database, ours.foreign, FOREIGN)
    merchant = ours.logged_in(ours.keys[Role.MERCHANT])
    text = page(merchant, DEAD)
    assert "1 shown of 1" in text
    assert FOREIGN not in text
    assert "Send again" not in shown(text)
    for kind in ("replay", "discard"):
        press(merchant, kind, letter=mine, confirmed="yes", count="1")
    assert statuses(ours.database) == ["FAILED"] * 2


def test_the_figures_say_what_happened_over_each_database(client: FlaskClient, database: Database) -> None:
    at = rows.NOW - timedelta(hours=3)
    first = rows.insert_alert(database, at=at, severity="P1")
    rows.insert_alert(database, at=at, severity="P3", alert_type="VELOCITY_ATTACK", account_id="acc_b")
    rows.insert_alert(database, at=rows.NOW - timedelta(days=20))
    rows.insert_trigger(database, first, at=at)
    rows.insert_trigger(database, outcome="suppressed", at=at)
    rows.insert_notification(database, first, at=at)
    rows.insert_notification(database, first, at=at, status="FAILED")
    actions = rows.NotedActions(database)
    actions.acknowledge(first, "", Doing("ana", rows.ADMIN, at + timedelta(minutes=10)))
    actions.comment(first, "later", Doing("ana", rows.ADMIN, at + timedelta(minutes=50)))
    text = shown(page(client, "/statistics"))
    for said in ("2 opened", "10 min to the first action", "Card testing 1", "Velocity attack 1", "P1 Critical 1",
                 "P2 High 0", "Suppressed 1", "Slack 2 1 failed", "5 to 15 min 1", "1 of 2 alerts"):  # fmt: skip
        assert said in text, said
    assert "3 opened" in shown(page(client, "/statistics?days=30"))
    assert "1 opened" in shown(page(client, "/statistics?account=acc_b"))
    assert "Nothing happened in this period" in page(client, "/statistics?account=nobody")


def test_a_merchant_sees_figures_of_its_own_alone(ours: Site) -> None:
    merchant = ours.logged_in(ours.keys[Role.MERCHANT])
    assert "1 opened" in shown(page(merchant, "/statistics"))
    assert "0 opened" in shown(page(merchant, f"/statistics?account={FOREIGN}"))


def test_the_audit_log_is_filtered_and_a_merchant_reads_its_own(ours: Site) -> None:
    actions = rows.NotedActions(ours.database)
    for alert_id, who, days in ((ours.own, "ana", 0), (ours.own, "ben", 2), (ours.foreign, "ana", 2)):
        actions.comment(alert_id, "x", Doing(who, rows.ADMIN, rows.NOW - timedelta(days=days)))
    save_configs(ours.database, [MerchantConfig("acc_z", "CARD_TESTING", enabled=False)], rows.NOW)
    admin, merchant = (ours.logged_in(ours.keys[role]) for role in (Role.ADMIN, Role.MERCHANT))
    days = "2026-03-12"
    for query, number in (
        ("action=alert", 3),
        ("actor=ana", 2),
        (f"account={OWN}", 2),
        (f"since={days}&until={days}", 2),
    ):
        assert f"{number} shown" in page(admin, f"/audit?{query}"), query
    assert "API key created" in shown(page(admin, "/audit"))
    assert "not set → off" in shown(page(admin, "/audit?account=acc_z"))
    text = page(merchant, "/audit")
    assert "2 shown" in text
    assert FOREIGN not in text
    assert "Nothing matches" in page(merchant, f"/audit?account={FOREIGN}")
    assert "by staff" in shown(text)
    assert "ana" not in shown(text), "who of the staff it was is no merchant's business"


def test_the_page_says_how_each_channel_fares(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    rows.insert_notification(database, alert_id, channel="slack", at=rows.NOW - timedelta(minutes=3, seconds=1))
    letter(database, alert_id, channel="sms")
    waiting = rows.insert_notification(
        database, alert_id, channel="email", status="PENDING", retries=2, error="SMTP: no route <to> host"
    )
    until = rows.NOW + timedelta(minutes=4)
    with database.write() as connection:
        connection.execute(sa.insert(pace).values(target="place-1", free_at=until))
        connection.execute(sa.update(notification).where(notification.c.id == waiting).values(target="place-1"))
    text = shown(page(client, "/notifications")).partition("Filter")[0]
    for said in (
        "Slack 0 waiting Last success 3 min ago",
        "SMS 0 waiting · 1 given up No success within a day · last failure",
        "no_service",
        "E-mail 1 waiting No success within a day · paused until",
        "1 tried again: SMTP: no route <to> host",
    ):
        assert said in text, text
    assert "Channels" not in shown(page(client, "/notifications?channel=slack")).partition("Filter")[0]


def test_a_merchant_sees_how_its_own_messages_fare_alone(ours: Site) -> None:
    letter(ours.database, ours.foreign, FOREIGN, channel="sms")
    rows.insert_notification(ours.database, ours.foreign, channel="email", status="PENDING", retries=1, error="theirs")
    with ours.database.write() as connection:
        connection.execute(sa.update(notification).values(account_id=FOREIGN))
    letter(ours.database, ours.own, channel="console")
    text = shown(page(ours.logged_in(ours.keys[Role.MERCHANT]), "/notifications"))
    assert "Console 0 waiting · 1 given up" in text
    for foreign in ("theirs", "SMS 0", "E-mail 1"):
        assert foreign not in text
