from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    AlertTypeSettings,
    Instance,
    NotifyReason,
    Outcome,
    SessionStatus,
    TriggerStatus,
    Withheld,
)
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.session import IllegalChange, SettlementKind, closed, place, settle, told
from webhook.domain.severity import DEFAULT_STEPS, Severity, escalate
from webhook.domain.throttle import DEFAULT_POLICY, NotificationPolicy, decide_notification

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SETTINGS = AlertTypeSettings()

SESSION = AlertSession(
    alert_id="a",
    account_id="acc",
    alert_type="CARD_TESTING",
    condition_fingerprint="f",
    severity=Severity.P3,
    status=AlertStatus.ACTIVE,
    session_status=SessionStatus.ACTIVE,
    occurrence_count=1,
    session_started_at=NOW,
    session_last_active=NOW,
    first_triggered_at=NOW,
    last_triggered_at=NOW,
    last_notified_at=NOW,
)


def instance(status: TriggerStatus, heard: datetime, passed: datetime | None = None) -> Instance:
    resolved_at = heard if status is TriggerStatus.RESOLVED else None
    return Instance("fp", NOW, status, "a", heard, NOW, resolved_at, last_passed_at=passed or heard)


@pytest.mark.parametrize(
    ("after", "heard", "outcome"),
    [
        (15 * MINUTE - timedelta(seconds=1), None, Outcome.SESSION_UPDATED),
        (15 * MINUTE, None, Outcome.COMMENT_ADDED),
        (40 * MINUTE, 15 * MINUTE, Outcome.SESSION_UPDATED),
        (40 * MINUTE, 16 * MINUTE, Outcome.COMMENT_ADDED),
        (24 * HOUR, None, Outcome.COMMENT_ADDED),
        (24 * HOUR + MINUTE, None, Outcome.CREATED),
    ],
)
def test_where_a_trigger_belongs(after: timedelta, heard: timedelta | None, outcome: Outcome) -> None:
    now = NOW + after
    assert place(SESSION, None if heard is None else now - heard, SETTINGS, now) is outcome


def test_a_closed_alert_is_not_joined() -> None:
    assert place(closed(SESSION, AlertStatus.DISMISSED, NOW), None, SETTINGS, NOW) is Outcome.CREATED
    assert place(None, None, SETTINGS, NOW) is Outcome.CREATED
    with pytest.raises(IllegalChange):
        closed(closed(SESSION, AlertStatus.RESOLVED, NOW), AlertStatus.DISMISSED, NOW)


@pytest.mark.parametrize(
    ("count", "lasted", "severity", "to"),
    [
        (9, 0 * HOUR, Severity.P3, None),
        (10, 0 * HOUR, Severity.P3, Severity.P2),
        (10, 0 * HOUR, Severity.P2, None),
        (10, 0 * HOUR, Severity.P0, None),
        (50, 0 * HOUR, Severity.P3, Severity.P1),
        (3, 2 * HOUR, Severity.P3, Severity.P1),
        (3, 6 * HOUR, Severity.P1, Severity.P0),
        (60, 7 * HOUR, Severity.P3, Severity.P0),
    ],
)
def test_steps(count: int, lasted: timedelta, severity: Severity, to: Severity | None) -> None:
    session = SESSION._replace(occurrence_count=count, severity=severity)
    step = escalate(session, DEFAULT_STEPS, NOW + lasted)
    assert (step.to_severity if step else None) is to


def test_what_joins_an_expired_session_does_not_make_it_longer() -> None:
    expired = SESSION._replace(session_status=SessionStatus.EXPIRED, occurrence_count=3)
    assert escalate(expired, DEFAULT_STEPS, NOW + 20 * HOUR) is None


@given(st.integers(1, 100), st.integers(0, 10), st.sampled_from(Severity))
def test_severity_only_rises(count: int, hours: int, severity: Severity) -> None:
    step = escalate(SESSION._replace(occurrence_count=count, severity=severity), DEFAULT_STEPS, NOW + hours * HOUR)
    assert step is None or step.to_severity.rank > severity.rank


FIRING, RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED


@pytest.mark.parametrize(
    ("instances", "after", "kind"),
    [
        ([(FIRING, 16)], 16, SettlementKind.KEEP),
        ([(RESOLVED, 5)], 14, SettlementKind.KEEP),
        ([(RESOLVED, 5)], 15, SettlementKind.RESOLVE),
        ([(RESOLVED, 5), (FIRING, 20)], 30, SettlementKind.KEEP),
        ([(RESOLVED, 5), (FIRING, 5)], 30, SettlementKind.EXPIRE),
        ([(FIRING, 5)], 24 * 60 + 1, SettlementKind.RESOLVE),
    ],
)
def test_settlement(instances: list[tuple[TriggerStatus, int]], after: int, kind: SettlementKind) -> None:
    heard = [instance(status, NOW + minutes * MINUTE) for status, minutes in instances]
    assert settle(SESSION, heard, NOW + after * MINUTE, SETTINGS).kind is kind


@pytest.mark.parametrize(("minutes", "kind"), [(39, SettlementKind.KEEP), (41, SettlementKind.RESOLVE)])
def test_what_fires_below_the_merchants_threshold_ends_a_timeout_after_it_last_passed(
    minutes: int, kind: SettlementKind
) -> None:
    now = NOW + minutes * MINUTE
    suppressed = instance(FIRING, now, passed=NOW + 25 * MINUTE)
    assert settle(SESSION, [suppressed], now, SETTINGS).kind is kind


def test_a_lost_resolve_leaves_an_expired_session_until_the_window_ends() -> None:
    expired = SESSION._replace(session_status=SessionStatus.EXPIRED)
    heard = [instance(FIRING, NOW)]
    assert settle(expired, heard, NOW + HOUR, SETTINGS).kind is SettlementKind.KEEP
    lapsed = settle(expired, heard, NOW + 25 * HOUR, SETTINGS)
    assert (lapsed.kind, lapsed.told) == (SettlementKind.RESOLVE, False), "nobody knows that it ended"
    assert settle(expired, [instance(RESOLVED, NOW)], NOW + HOUR, SETTINGS).told
    done = closed(SESSION, AlertStatus.RESOLVED, NOW)
    assert settle(done, [], NOW + 25 * HOUR, SETTINGS).kind is SettlementKind.KEEP


def decide(
    after: AlertSession,
    *,
    before: AlertSession | None = SESSION,
    policy: NotificationPolicy = DEFAULT_POLICY,
    recent: tuple[datetime, ...] = (),
    now: datetime = NOW,
) -> NotifyReason | Withheld:
    return decide_notification(before, after, policy, sorted(recent), now)


def test_the_default_strategy_tells_first_and_then_hourly() -> None:
    assert decide(SESSION._replace(last_notified_at=None), before=None) is NotifyReason.FIRST
    assert decide(SESSION, now=NOW + 59 * MINUTE) is Withheld.STRATEGY
    assert decide(SESSION, now=NOW + 60 * MINUTE) is NotifyReason.INTERVAL


def test_a_first_message_that_was_withheld_is_owed() -> None:
    untold = SESSION._replace(last_notified_at=None)
    policy = NotificationPolicy(max_per_hour=1)
    assert decide(untold, before=None, policy=policy, recent=(NOW,)) is Withheld.FREQUENCY
    assert decide(untold, policy=policy, recent=(NOW,), now=NOW + HOUR) is NotifyReason.FIRST


def test_thresholds() -> None:
    policy = NotificationPolicy(first=False, thresholds=(5, 20), interval=None)
    five = told(SESSION._replace(occurrence_count=5), NOW)
    assert decide(SESSION._replace(occurrence_count=4), policy=policy) is Withheld.STRATEGY
    assert decide(SESSION._replace(occurrence_count=5), policy=policy) is NotifyReason.THRESHOLD
    assert decide(five._replace(occurrence_count=6), before=five, policy=policy) is Withheld.STRATEGY
    assert decide(five._replace(occurrence_count=20), before=five, policy=policy) is NotifyReason.THRESHOLD


@pytest.mark.parametrize("why", [Withheld.FREQUENCY, Withheld.SNOOZED])
def test_a_threshold_that_was_withheld_is_owed_until_a_message_has_gone_out(why: Withheld) -> None:
    snoozed = NOW + MINUTE if why is Withheld.SNOOZED else None
    spaced = 30 * MINUTE if why is Withheld.FREQUENCY else timedelta(0)
    policy = NotificationPolicy(
        first=False, thresholds=(10,), interval=None, min_interval=spaced, snoozed_until=snoozed
    )
    untold = SESSION._replace(last_notified_at=None)
    ten, eleven = untold._replace(occurrence_count=10), untold._replace(occurrence_count=11)
    recent = (NOW - MINUTE,)
    assert decide(ten, before=untold, policy=policy, recent=recent) is why
    later = NOW + 30 * MINUTE
    assert decide(eleven, before=ten, policy=policy, recent=recent, now=later) is NotifyReason.THRESHOLD
    heard = told(eleven, later)
    twelve = heard._replace(occurrence_count=12)
    assert decide(twelve, before=heard, policy=policy, recent=recent, now=later) is Withheld.STRATEGY


def test_limits_are_sliding_windows() -> None:
    untold = SESSION._replace(last_notified_at=None)
    hour = tuple(NOW - minutes * MINUTE for minutes in (1, 20, 40, 58, 59))
    assert decide(untold, recent=hour) is Withheld.FREQUENCY
    assert decide(untold, recent=hour, now=NOW + MINUTE) is NotifyReason.FIRST
    day = tuple(NOW - HOUR - hours * HOUR for hours in range(20))
    assert decide(untold, recent=day) is Withheld.FREQUENCY
    spaced = NotificationPolicy(min_interval=20 * MINUTE)
    assert decide(untold, policy=spaced, recent=(NOW - 19 * MINUTE,)) is Withheld.FREQUENCY
    assert decide(untold, policy=spaced, recent=(NOW - 20 * MINUTE,)) is NotifyReason.FIRST


def test_escalation_and_p0_pass_every_limit() -> None:
    closed_shut = NotificationPolicy(
        first=False, interval=None, max_per_hour=0, max_per_day=0, snoozed_until=NOW + 24 * HOUR
    )
    graver = SESSION._replace(severity=Severity.P2)
    assert decide(graver, policy=closed_shut) is NotifyReason.ESCALATED
    assert decide(graver, before=graver, policy=closed_shut) is Withheld.SNOOZED
    emergency = SESSION._replace(severity=Severity.P0, last_notified_at=None)
    assert decide(emergency, before=None, policy=closed_shut) is NotifyReason.FIRST
    heard = emergency._replace(last_notified_at=NOW)
    assert decide(heard, before=heard, policy=closed_shut, now=NOW + HOUR) is NotifyReason.INTERVAL


def test_the_policy_is_read_from_the_configuration() -> None:
    settings = {
        "frequency_control": {"max_alerts_per_hour": 3, "max_alerts_per_day": 15, "min_interval_minutes": 20},
        "notification_strategy": {"first": False, "thresholds": [5], "interval_minutes": 0},
        "snooze_until": "2026-01-05T13:00:00Z",
    }
    policy = NotificationPolicy.of(MerchantConfig("acc", "CARD_TESTING", notification_settings=settings))
    assert policy == NotificationPolicy(
        first=False,
        thresholds=(5,),
        interval=None,
        max_per_hour=3,
        max_per_day=15,
        min_interval=20 * MINUTE,
        snoozed_until=NOW + HOUR,
    )
    assert NotificationPolicy.of(None) == NotificationPolicy()
