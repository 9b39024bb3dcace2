"""SMS to several numbers over a real store: nobody twice, nobody too often, and what the gateway reports afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fakes_provider import Answer, Call, ProviderStub
from notes import NOW, Shop, make_message, make_note

from webhook.domain.alert import NotifyReason
from webhook.domain.retrying import NextTry, Wait
from webhook.domain.severity import Severity
from webhook.domain.summary import template_summary
from webhook.domain.text_message import LIMITED
from webhook.notifiers.sms import Sms, SmsOptions
from webhook.notifiers.twilio import signature, signed
from webhook.ports import PermanentDeliveryError, Receipt, TemporaryDeliveryError
from webhook.storage.delivery_tables import sms_message
from webhook.storage.holding import replace_held
from webhook.storage.outbox import Outbox
from webhook.storage.sms_log import StoredSmsLog
from webhook.storage.tables import notification

TOKEN = "a-twilio-token-for-tests-0123456789"
ONE, TWO, THREE = "+14155550101", "+14155550102", "+14155550103"


class Phone:
    """A gateway, its stub, and a store; each number gets a sid of its own."""

    def __init__(self, url: str, stub: ProviderStub) -> None:
        self.shop, self.stub, self.now = Shop(url), stub, NOW
        self.alert_id = self.shop.add_alert()
        self.log = StoredSmsLog(self.shop.database, lambda: self.now)
        stub.usual = self.answer
        self.refuse: dict[str, Answer] = {}

    def answer(self, call: Call) -> Answer:
        if call.method == "GET":
            return Answer(body={"messages": self.listed})
        return self.refuse.pop(call.form["To"], None) or Answer(201, {"sid": f"SM{len(self.stub.calls)}"})

    listed: tuple[dict[str, Any], ...] = ()

    def notification(self) -> str:
        return self.shop.add_notification(self.alert_id, channel_type="sms", status="SENT", sent_at=NOW)

    def send(
        self,
        notification_id: str,
        *numbers: str,
        severity: Severity = Severity.P1,
        reason: NotifyReason = NotifyReason.FIRST,
        **options: Any,
    ) -> Receipt:
        given: dict[str, Any] = {
            "base_url": self.stub.url,
            "account_sid": "AC0123456789",
            "auth_token": TOKEN,
            "from_number": "+15005550006",
        }
        sms = Sms(SmsOptions.model_validate(given | options), "https://sentinel.example", self.log)
        message = make_message(make_note(notification_id=notification_id, severity=severity, reason=reason))
        return sms.send(message, {"phone_numbers": list(numbers)})

    @property
    def texted(self) -> list[str]:
        return [call.form["To"] for call in self.stub.calls if call.method == "POST"]

    def slots(self) -> list[dict[str, Any]]:
        return sorted(self.shop.rows(sms_message), key=lambda row: row["provider_id"] or "")

    def heard(self, ending: Any, *, number: int = 0, error: str = "") -> bool:
        slot = self.slots()[number]
        return self.log.heard(slot["id"], slot["provider_id"] or "SM-early", ending, error)


@pytest.fixture
def phone(store_url: str) -> Iterator[Phone]:
    with ProviderStub() as stub:
        phone = Phone(store_url, stub)
        yield phone
        phone.shop.close()


def test_each_number_is_texted_once_and_the_receipt_says_what_it_cost(phone: Phone) -> None:
    receipt = phone.send(phone.notification(), ONE, TWO)
    assert phone.texted == [ONE, TWO]
    assert receipt.reference == "SM1"
    assert receipt.details == {
        "encoding": "GSM-7",
        "segments": 1,
        "numbers": [{"to": "+1*******101", "sid": "SM1"}, {"to": "+1*******102", "sid": "SM2"}],
    }
    form = phone.stub.calls[0].form
    assert form["From"] == "+15005550006"
    assert form["Body"].startswith(
        "Sentinel Alert [P1]: Card testing attack detected. Block rate: 35.04%. View: https:"
    )
    assert form["StatusCallback"].startswith("https://sentinel.example/api/v1/sms/status?m=")


def test_a_further_try_leaves_out_who_got_it(phone: Phone) -> None:
    notification_id = phone.notification()
    phone.refuse = {TWO: Answer(429, {"code": 20429}, {"Retry-After": "9"})}
    with pytest.raises(TemporaryDeliveryError) as caught:
        phone.send(notification_id, ONE, TWO, THREE)
    assert (caught.value.retry_after, caught.value.whose) == (9, Wait.CHANNEL), "the limit is of the account"
    receipt = phone.send(notification_id, ONE, TWO, THREE)
    assert phone.texted == [ONE, TWO, THREE, TWO]
    assert [entry["sid"] for entry in receipt.details["numbers"]] == ["SM1", "SM4", "SM3"]


@pytest.mark.parametrize(("code", "words"), [(21211, "not a phone number"), (21610, "STOP"), (21614, "cannot receive")])
def test_a_number_that_is_refused_is_told_and_others_are_served(phone: Phone, code: int, words: str) -> None:
    notification_id = phone.notification()
    phone.refuse = {ONE: Answer(400, {"code": code, "message": f"{ONE} is bad"})}
    receipt = phone.send(notification_id, ONE, TWO)
    assert words in receipt.details["numbers"][0]["error"]
    assert receipt.reference == "SM2"
    phone.send(notification_id, ONE, TWO)
    assert phone.texted == [ONE, TWO], "neither who got it nor who cannot get it is tried again"


def test_a_message_that_nobody_can_get_is_final_and_tried_whole_when_sent_again(phone: Phone) -> None:
    notification_id = phone.notification()
    phone.refuse = {ONE: Answer(400, {"code": 21610})}
    with pytest.raises(PermanentDeliveryError, match="unsubscribed") as caught:
        phone.send(notification_id, ONE)
    assert ONE not in str(caught.value)
    phone.send(notification_id, ONE)
    assert phone.texted == [ONE, ONE]


def test_refused_credentials_are_final_and_mark_no_number(phone: Phone) -> None:
    phone.refuse = {ONE: Answer(401, {"code": 20003, "message": TOKEN})}
    with pytest.raises(PermanentDeliveryError, match="token is refused") as caught:
        phone.send(phone.notification(), ONE, TWO)
    assert TOKEN not in str(caught.value)
    assert phone.texted == [ONE]
    assert phone.slots() == []


@pytest.mark.parametrize("arrived", [True, False])
def test_what_broke_off_is_looked_up_before_it_is_sent_again(phone: Phone, *, arrived: bool) -> None:
    notification_id = phone.notification()
    phone.refuse = {ONE: Answer(reset=True)}
    with pytest.raises(TemporaryDeliveryError):
        phone.send(notification_id, ONE)
    body = phone.stub.calls[0].form["Body"]
    other = {"sid": "SM-other", "to": ONE, "body": "another", "date_created": "Fri, 21 Nov 2025 10:42:31 +0000"}
    older = {"sid": "SM-old", "to": ONE, "body": body, "date_created": "Thu, 20 Nov 2025 10:42:31 +0000"}
    ours = {"sid": "SM-ours", "to": ONE, "body": body, "date_created": "Fri, 21 Nov 2025 10:42:31 +0000"}
    phone.listed = (other, older, ours) if arrived else (other, older)
    receipt = phone.send(notification_id, ONE)
    assert len(phone.texted) == (1 if arrived else 2)
    assert receipt.reference == ("SM-ours" if arrived else "SM3")


def test_a_number_gets_only_so_many_within_an_hour_but_for_p0(phone: Phone) -> None:
    for _ in range(2):
        phone.send(phone.notification(), ONE, per_number_hour=2)
        phone.now += timedelta(minutes=10)
    with pytest.raises(TemporaryDeliveryError, match="held back") as caught:
        phone.send(phone.notification(), ONE, per_number_hour=2)
    assert (caught.value.retry_after, caught.value.whose) == (40 * 60, Wait.MESSAGE), "and nobody else waits"
    phone.send(phone.notification(), ONE, per_number_hour=2, severity=Severity.P0)
    phone.send(phone.notification(), ONE, per_number_hour=2, reason=NotifyReason.RESOLVED)
    phone.send(phone.notification(), TWO, per_number_hour=2)
    assert phone.texted == [ONE, ONE, ONE, ONE, TWO]
    phone.now += timedelta(hours=1)
    phone.send(phone.notification(), ONE, per_number_hour=2)
    assert phone.texted[-1] == ONE


def test_it_is_delivered_when_the_last_number_has_it(phone: Phone) -> None:
    notification_id = phone.notification()
    phone.send(notification_id, ONE, TWO)
    assert phone.heard("DELIVERED")
    assert phone.shop.row(notification_id)["status"] == "SENT"
    phone.now += timedelta(seconds=5)
    assert phone.heard("FAILED", number=1, error="30003: off")
    row = phone.shop.row(notification_id)
    assert (row["status"], row["delivered_at"]) == ("DELIVERED", phone.now)
    assert row["error_message"] == "1 of 2 numbers: 30003: off"


def test_it_has_failed_when_no_number_got_it_and_a_late_word_changes_nothing(phone: Phone) -> None:
    notification_id = phone.notification()
    phone.send(notification_id, ONE)
    phone.heard("FAILED", error="30005: unknown")
    phone.heard("DELIVERED")
    row = phone.shop.row(notification_id)
    assert (row["status"], row["error_message"]) == ("FAILED", "1 of 1 numbers: 30005: unknown")
    phone.send(notification_id, ONE)
    assert phone.texted == [ONE, ONE], "a person had it sent again"
    assert phone.slots()[0]["status"] == "SENT"


def test_a_report_that_is_faster_than_the_worker_counts_when_it_has_recorded_its_message(phone: Phone) -> None:
    outbox, notification_id = (
        Outbox(phone.shop.database),
        phone.shop.add_notification(phone.alert_id, channel_type="sms"),
    )
    (note,) = outbox.claim(1, "one", NOW, timedelta(minutes=1))
    receipt = phone.send(notification_id, ONE)
    assert phone.heard("DELIVERED")
    assert phone.shop.row(notification_id)["status"] == "SENDING"
    outbox.record_sent(note, receipt, template_summary(note), NOW)
    row = phone.shop.row(notification_id)
    assert (row["status"], row["delivered_at"]) == ("DELIVERED", NOW)


def test_what_waits_for_its_number_gives_way_to_what_comes_later(phone: Phone) -> None:
    outbox, notification_id = (
        Outbox(phone.shop.database),
        phone.shop.add_notification(phone.alert_id, channel_type="sms"),
    )
    (note,) = outbox.claim(1, "one", NOW, timedelta(minutes=1))
    outbox.record_failed(note, LIMITED, NOW, NextTry(NOW + timedelta(hours=1), counted=False))
    assert phone.shop.row(notification_id)["status"] == "PENDING"
    with phone.shop.database.write() as connection:
        replace_held(connection, [{"alert_id": phone.alert_id, "channel_type": "sms", "reason": "escalated"}])
    assert phone.shop.rows(notification) == []


def test_a_report_about_another_sending_is_unknown(phone: Phone) -> None:
    phone.send(phone.notification(), ONE)
    assert not phone.log.heard(phone.slots()[0]["id"], "SM-another", "FAILED", "")
    assert not phone.log.heard("11111111-1111-4111-8111-111111111111", "SM1", "FAILED", "")


def test_a_signature_is_twilios() -> None:
    """The example of its documentation."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+12349013030"),
        ("Digits", "1234"),
        ("From", "+12349013030"),
        ("To", "+18005551212"),
    ]
    assert signature(url, form, "12345") == "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    assert signed("0/KCTR6DLpKmkAf8muzZqo1nDgQ=", url, reversed(form), "12345")
    assert not signed("", url, form, "12345")
    assert not signed("é", url, form, "12345")
