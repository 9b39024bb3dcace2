"""Who is mentioned, and when a snooze holds back what is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from webhook.domain.access import SYSTEM_PRINCIPAL
from webhook.domain.action import Doing, VersionChanged, mentions
from webhook.domain.alert import AlertSession, AlertStatus, NotifyReason, SessionStatus, Withheld
from webhook.domain.severity import Severity
from webhook.domain.throttle import DEFAULT_POLICY, decide_notification

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SNOOZED = AlertSession(
    "a", "acc", "CARD_TESTING", "f", Severity.P2, AlertStatus.ACTIVE, SessionStatus.ACTIVE, 3, NOW, NOW, NOW, NOW,
    snoozed_until=NOW + timedelta(hours=1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("@dana please", ["dana"]),
        ("(@a.b-c_d), @dana. @dana!", ["a.b-c_d", "dana"]),
        ("write to ops@example.com or http://x/@y", []),
        ("@ @. @-x", []),
        ("", []),
    ],
)
def test_names_after_an_at_are_mentions_and_addresses_are_not(text: str, named: list[str]) -> None:
    assert mentions(text) == named


def test_a_snoozed_alert_is_quiet_until_then_but_not_when_it_gets_graver_or_is_p0() -> None:
    graver, p0 = SNOOZED._replace(severity=Severity.P1), SNOOZED._replace(severity=Severity.P0)
    assert decide_notification(SNOOZED, SNOOZED, DEFAULT_POLICY, [], NOW) is Withheld.SNOOZED
    assert decide_notification(SNOOZED, graver, DEFAULT_POLICY, [], NOW) is NotifyReason.ESCALATED
    assert decide_notification(p0, p0, DEFAULT_POLICY, [], NOW) is NotifyReason.FIRST
    after = NOW + timedelta(hours=1)
    assert decide_notification(SNOOZED, SNOOZED, DEFAULT_POLICY, [], after) is NotifyReason.FIRST


def test_what_was_decided_on_another_version_is_told_the_present_one() -> None:
    Doing("a", SYSTEM_PRINCIPAL, NOW).check(7)
    Doing("a", SYSTEM_PRINCIPAL, NOW, versions=frozenset({6, 7})).check(7)
    with pytest.raises(VersionChanged) as told:
        Doing("a", SYSTEM_PRINCIPAL, NOW, versions=frozenset()).check(7)
    assert told.value.present == 7
