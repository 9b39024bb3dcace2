"""Messages to try a channel with: what an attack would look like, and a test that nobody can take for one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Message, Note, Summary, compose
from webhook.domain.severity import Severity
from webhook.domain.summary import template_summary

_TEST = Summary(
    title="TEST MESSAGE: no attack",
    text="This is a test of this channel by whoever runs Sentinel. There is no attack.",
    suggested_action="Nothing: if you can read this, the channel works.",
    source="template",
)


def sample_message(public_url: str, account_id: str, now: datetime) -> Message:
    """Of an attack that was made up."""
    note = _note(account_id or "acc_example", "Example Shop", "00000000-0000-4000-8000-000000000000", now)
    return compose(note, template_summary(note), public_url)


def trial_message(public_url: str, account_id: str, alert_id: str, now: datetime) -> Message:
    """`alert_id` is a new one: what it opens at a provider is its own."""
    note = replace(
        _note(account_id or "test", "Sentinel test", alert_id, now), severity=Severity.P3, metrics={}, thresholds={}
    )
    return compose(note, _TEST, public_url)


def _note(account_id: str, merchant: str, alert_id: str, now: datetime) -> Note:
    return Note(
        notification_id=alert_id,
        alert_id=alert_id,
        account_id=account_id,
        merchant_name=merchant,
        alert_type="CARD_TESTING",
        severity=Severity.P1,
        status=AlertStatus.ACTIVE,
        reason=NotifyReason.FIRST,
        rule_summary="",
        metrics={"block_rate": 0.45, "transaction_count": 1234.0},
        thresholds={"block_rate": 0.2},
        occurrence_count=3,
        first_triggered_at=now - timedelta(minutes=12),
        last_triggered_at=now,
        resolved_at=None,
        channel_type="",
        channel_settings={},
        retry_count=0,
        created_at=now,
    )
