"""One SMS: what it says, what it costs, when it goes out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notes import ended_note, make_message, make_note

from webhook.domain.alert import AlertSession, AlertStatus, NotifyReason, SessionStatus
from webhook.domain.channel_choice import channels_of
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.gsm import cost, transliterated
from webhook.domain.severity import Severity
from webhook.domain.text_message import HELD, held_until, short_link, short_range, sms_text, wanted_for
from webhook.storage.announcements import notification_row

LINK = "https://awx.link/a/2222222222"
NIGHT = {"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}}


def test_a_text_reads_as_the_owner_wrote_it() -> None:
    text = sms_text(make_message(), "Airwallex", LINK)
    assert text == (
        "Airwallex Alert [P1]: Card testing attack detected. Block rate: 35.04%. View: https://awx.link/a/2222222222"
    )
    assert cost(text) == ("GSM-7", len(text) + 2, 1), "brackets count twice"


def test_an_end_says_so() -> None:
    assert "ended" in sms_text(make_message(ended_note()), "Sentinel", LINK).casefold()


@given(st.text(max_size=300), st.text(max_size=80))
def test_no_text_is_longer_than_one_gsm_segment_or_two_of_another_script(title: str, metric: str) -> None:
    message = make_message(make_note(metrics={metric or "m": 1.0}, thresholds={}))
    object.__setattr__(message, "title", title)
    text = sms_text(message, "Sentinel", LINK)
    found = cost(text)
    assert found.segments <= (1 if found.encoding == "GSM-7" else 2)
    assert text.endswith(LINK)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        ("a" * 152 + "€" + "a" * 10, "GSM-7", 164, 2),
        ("a" * 152 + "€" + "a" * 151, "GSM-7", 305, 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),  # the € does not fit behind 152 and begins the next
        ("警" * 70, "UCS-2", 70, 1),
        ("警" * 71, "UCS-2", 71, 2),
        ("🔴" * 35, "UCS-2", 70, 1),
        ("🔴" * 67, "UCS-2", 134, 3),
        ("", "GSM-7", 0, 1),
    ],
)
def test_segments_are_counted_as_carriers_do(text: str, encoding: str, units: int, segments: int) -> None:
    assert cost(text) == (encoding, units, segments)


def test_accents_and_typography_become_gsm_and_other_scripts_stay() -> None:
    assert transliterated("Ålesund \u2013 “Café” naïve… Łódź 5 ≥ 4") == 'Ålesund - "Café" naive... Lodz 5 >= 4'
    assert transliterated("警报") == "警报"


@pytest.mark.parametrize(
    ("at", "severity", "until"),
    [
        ("2025-11-21T20:59+00:00", "P1", None),
        ("2025-11-21T21:00+00:00", "P1", "2025-11-22T06:00+00:00"),
        ("2025-11-22T05:59+00:00", "P1", "2025-11-22T06:00+00:00"),
        ("2025-11-22T06:00+00:00", "P1", None),
        ("2025-11-21T23:00+00:00", "P0", None),
        ("2026-03-28T22:30+00:00", "P1", "2026-03-29T05:00+00:00"),  # the night in which clocks go forward
    ],
)
def test_quiet_hours_hold_back_until_their_end(at: str, severity: str, until: str | None) -> None:
    now = datetime.fromisoformat(at).astimezone(UTC)
    held = held_until(NIGHT, Severity(severity), now)
    assert held == (None if until is None else datetime.fromisoformat(until))


def test_sms_are_for_the_gravest_unless_the_merchant_says_otherwise() -> None:
    assert wanted_for("sms", {}, Severity.P1)
    assert not wanted_for("sms", {}, Severity.P2)
    assert wanted_for("sms", {"min_severity": "P3"}, Severity.P3)
    assert wanted_for("slack", {}, Severity.P3)


def test_a_short_link_covers_its_alert_and_no_garbage() -> None:
    alert_id = "22222222-2222-4222-8222-222222222222"
    link = short_link("https://awx.link/", alert_id)
    assert link == LINK
    between = short_range(link.rsplit("/", 1)[1])
    assert between is not None
    assert between[0] <= alert_id <= between[1]
    assert short_range("2222") is None
    assert short_range("22222222%2") is None


def test_a_mild_alert_has_no_sms_and_a_message_in_quiet_hours_waits_for_their_end() -> None:
    config = MerchantConfig("acc_017", "CARD_TESTING", channel_preferences={"sms": NIGHT})
    assert channels_of(config, {"console": {}}, Severity.P2) == {"console": {}}
    channels = channels_of(config, {}, Severity.P1)
    assert channels == {"sms": NIGHT}

    now = datetime(2025, 11, 21, 23, tzinfo=UTC)
    content = {"channel_settings": channels["sms"]}
    for severity, due, said in (
        (Severity.P1, datetime(2025, 11, 22, 6, tzinfo=UTC), HELD),
        (Severity.P0, now, None),
    ):
        session = AlertSession(
            "a",
            "acc_017",
            "CARD_TESTING",
            "c",
            severity,
            AlertStatus.ACTIVE,
            SessionStatus.ACTIVE,
            1,
            now,
            now,
            now,
            now,
        )
        row = notification_row(session, NotifyReason.FIRST, "sms", content, comment_id=None, now=now)
        assert (row["not_before"], row["error_message"]) == (due, said)


def test_quiet_hours_of_one_day_end_on_it() -> None:
    noon = {"quiet_hours": {"from": "12:00", "to": "13:00", "time_zone": "UTC"}}
    held = held_until(noon, Severity.P1, datetime(2025, 11, 21, 12, 30, tzinfo=UTC))
    assert held == datetime(2025, 11, 21, 13, tzinfo=UTC)
