"""Explanations of what the pipeline stored: in the order in which it was decided."""

from __future__ import annotations

import pytest
from ingest_shop import MINUTE, Shop, firing, shop

from webhook.domain.explanation import Explanation, StepKind, explain
from webhook.pipeline.sweep import Sweep
from webhook.storage.explaining import read_facts
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert

__all__ = ["shop"]

NAMES = [f"Rule{letter}" for letter in "GBFADCEH"]


def explained(shop: Shop) -> Explanation:
    (stored,) = shop.rows(alert)
    with shop.database.read() as connection:
        facts = read_facts(connection, stored["id"])
    assert facts is not None
    return explain(facts, shop.settings.types["CARD_TESTING"])


def of_kind(found: Explanation, kind: StepKind) -> list[str]:
    return [step.text for step in found.steps if step.kind is kind]


def test_a_delivery_is_told_in_the_order_in_which_it_was_decided(shop: Shop) -> None:
    severities = ["P3", "P3", "P2", "P3", "P1", "P3", "P0", "P3"]
    shop.deliver(*(firing(name=name, severity=severity) for name, severity in zip(NAMES, severities, strict=True)))
    found = explained(shop)
    triggers = [step.text.split()[0] for step in found.steps if "trigger_id" in step.data and step.data.get("outcome")]
    assert triggers == NAMES
    assert [text.split(" because")[0] for text in of_kind(found, StepKind.ESCALATED)] == [
        "Severity rose from P3 to P2",
        "Severity rose from P2 to P1",
        "Severity rose from P1 to P0",
    ]
    assert [text.rpartition(": ")[2] for text in of_kind(found, StepKind.NOTIFIED)] == [
        "it is the first message of this alert.",
        *["the severity rose."] * 3,
    ]


def test_of_very_many_triggers_the_oldest_and_the_newest_are_told_in_order(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.storage.explaining.MOST_TRIGGERS", 4)
    for _ in range(5):
        shop.deliver(firing(name="RuleA"), firing(name="RuleB"), after=5 * MINUTE)
    found = explained(shop)
    told = [step for step in found.steps if step.data.get("outcome")]
    assert [step.text.split()[0] for step in told] == ["RuleA", "RuleB", "RuleA", "RuleB"]
    assert found.more_triggers == 6
    assert "left out here" in told[2].text


def test_an_attack_is_told_to_its_end(shop: Shop) -> None:
    shop.deliver(firing())
    shop.deliver(firing(), after=20 * MINUTE)
    shop.deliver(firing(status="resolved"), after=MINUTE)
    shop.now += 20 * MINUTE
    sweeping = Sweeping(shop.database, shop.settings.types, shop.settings.channels)
    Sweep(sweeping, Outbox(shop.database), shop.settings.types).run_once(shop.now)
    found = explained(shop)
    kinds = [step.kind.value for step in found.steps]
    assert kinds == ["fired", "notified", "merged", "withheld", "ended", "noted", "notified"]
    assert "its last trigger was 20 min before" in found.steps[2].text
    assert found.steps[-1].text == "A message on console is queued: the attack ended."
    assert "2 messages, 1 triggers without a message" in found.summary
