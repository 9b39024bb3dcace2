"""From a row in a database to a message to a merchant, through every real part of the stack."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from e2e_stack import OCCURRENCE_INTERVAL, Stack, whole_stack
from PIL import Image
from servers import wait_for

APPROVED, BLOCKED, DECLINED = 211, 137, 43
TOTAL = APPROVED + BLOCKED + DECLINED
LINE, ALARM = (0x1D, 0x5F, 0xE0), (0xC8, 0x28, 0x1C)  # of the metric and of the threshold, on a light chart

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def stack(tmp_path: Path, postgresql_database: str) -> Iterator[Stack]:
    """Over PostgreSQL; over SQLite `make run` does the same (test_make_run.py)."""
    store_url = postgresql_database.replace("postgresql:", "postgresql+psycopg:")
    with whole_stack(tmp_path, store_url, f"sqlite:///{tmp_path}/payments.sqlite") as running:
        yield running


def alerts(stack: Stack, **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.get("/api/v1/alerts", **filters)["data"]
    return found


def triggers(stack: Stack, account_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.get("/api/v1/triggers", merchant_id=account_id)["data"]
    return found


def told(stack: Stack, word: str) -> list[dict[str, Any]]:
    """Slack messages whose visible text holds `word`."""
    return [message for message in stack.slack.messages if word in json.dumps(message, ensure_ascii=False)]


def test_one_merchant_is_told_of_its_attack_and_of_its_end_and_another_is_not(stack: Stack) -> None:
    for account_id in ("acc_001", "acc_002"):
        stack.pay(account_id, approved=APPROVED, blocked=BLOCKED, declined=DECLINED)

    wait_for(lambda: stack.slack.files, timeout=240, what="a message with a chart")
    assert_told_once(stack)
    assert_second_merchant_is_suppressed_and_says_why(stack)
    assert_a_second_alertmanager_changes_no_count(stack)

    stack.let_the_window_pass()
    for account_id in ("acc_001", "acc_002"):  # they go on selling
        stack.pay(account_id, approved=APPROVED)
    wait_for(lambda: alerts(stack, status="RESOLVED"), timeout=240, step=1, what="the alert is resolved")
    wait_for(lambda: told(stack, "has ended"), what="a resolved message")
    assert_both_ended(stack)


def assert_told_once(stack: Stack) -> None:
    (message,) = stack.slack.messages
    words = json.dumps(message, ensure_ascii=False)
    assert "P3" in words
    assert "Harbour Books" in words
    assert f"{100 * BLOCKED / TOTAL:.2f}" in words  # 35.04 %
    assert f"{100 * (BLOCKED + DECLINED) / TOTAL:.2f}" in words
    assert str(TOTAL) in words

    (alert,) = alerts(stack)
    assert alert["severity"] == "P3"
    detail = stack.get(f"/api/v1/alerts/{alert['alert_id']}")
    measured = {metric["metric_name"]: (metric["metric_value"], metric["threshold"]) for metric in detail["metrics"]}
    assert measured == {
        "block_rate": (BLOCKED / TOTAL, 0.2),
        "failed_auth_rate": ((BLOCKED + DECLINED) / TOTAL, 0.3),
        "transaction_count": (TOTAL, 100),
    }

    (chart,) = stack.slack.files
    with Image.open(io.BytesIO(chart)) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 300
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert colours.get(LINE, 0) > 20  # the metric
    assert colours.get(ALARM, 0) > 200  # its threshold and the start of the alert


def assert_second_merchant_is_suppressed_and_says_why(stack: Stack) -> None:
    def suppressed() -> list[dict[str, Any]]:
        return [trigger for trigger in triggers(stack, "acc_002") if trigger["outcome"] == "suppressed"]

    trigger = wait_for(suppressed, what="the second merchant's trigger")[0]
    (condition,) = trigger["verdict"]["conditions"]
    assert condition["metric"] == "block_rate"
    assert condition["value"] == BLOCKED / TOTAL
    assert (condition["operator"], condition["threshold"], condition["met"]) == (">", 0.6, False)
    assert not alerts(stack, merchant_id="acc_002")
    assert not told(stack, "Blue Kiosk")


def assert_a_second_alertmanager_changes_no_count(stack: Stack) -> None:
    """However long this takes: of what both deliver, one is counted in each occurrence interval."""
    wait_for(lambda: min(stack.delivered()) >= 3, timeout=240, what="repeats of both Alertmanagers")
    (alert,) = alerts(stack, merchant_id="acc_001")
    count = stack.get(f"/api/v1/alerts/{alert['alert_id']}")["occurrence_count"]
    firing = [trigger for trigger in triggers(stack, "acc_001") if trigger["status"] == "FIRING"]
    outcomes = [trigger["outcome"] for trigger in firing]
    assert outcomes.count("created") == 1
    assert "duplicate" in outcomes
    assert set(outcomes) <= {"created", "session_updated", "duplicate"}
    counted = sorted(at(trigger) for trigger in firing if trigger["outcome"] != "duplicate")
    assert len(counted) >= count, "some may have come since"
    assert all(later - earlier >= OCCURRENCE_INTERVAL for earlier, later in pairwise(counted))
    assert len(stack.slack.messages) == 1


def at(trigger: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(trigger["received_at"])


def ended(stack: Stack, account_id: str) -> dict[str, Any]:
    """The last trigger, once it says that what was measured is over."""

    def last() -> dict[str, Any] | None:
        trigger = triggers(stack, account_id)[0]
        return trigger if trigger["status"] == "RESOLVED" else None

    return wait_for(last, what=f"the end of {account_id}")


def assert_both_ended(stack: Stack) -> None:
    (alert,) = alerts(stack)
    assert (alert["merchant_id"], alert["status"]) == ("acc_001", "RESOLVED")
    assert len(stack.slack.messages) == 2
    assert "Harbour Books" in json.dumps(stack.slack.messages[1], ensure_ascii=False)
    for account_id in ("acc_001", "acc_002"):
        assert ended(stack, account_id)["outcome"] == "resolved"
    assert not told(stack, "Blue Kiosk")
