"""What has to hold in the end, whatever was done to the stack: nothing lost, nothing twice, all accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from drills.load import Attack
from drills.slack import Slack
from drills.store import Message, Stored
from drills.tap import Tap

TOLD = ("first", "resolved")
"""The messages of one attack, each once."""

_SHOWN = 3


@dataclass
class Verdict:
    """`broken` cannot become right again; `missing` may yet come, and is lost if it does not."""

    broken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.broken and not self.missing

    @property
    def problems(self) -> list[str]:
        return [*self.broken, *self.missing]


def verify(
    attacks: Sequence[Attack], delivered: int, tap: Tap, stored: Stored, slack: Slack, *, broken_off: int = 0
) -> Verdict:
    """`delivered`: the tap's count from before the store was read.

    `broken_off`: calls that the drill itself broke off when Slack had the message; of these nobody can be sure.
    """
    verdict = Verdict()
    _ledger(verdict, delivered, tap, stored)
    _alerts(verdict, attacks, stored)
    _messages(verdict, attacks, stored, slack)
    _repeats(verdict, stored, slack, broken_off)
    return verdict


def _ledger(verdict: Verdict, delivered: int, tap: Tap, stored: Stored) -> None:
    """Every alert that was answered with 200 is logged once; one whose call broke off may be."""
    most = tap.delivered + tap.doubtful + tap.under_way
    if stored.logged < delivered:
        verdict.broken.append(f"{delivered - stored.logged} alerts were answered with 200 and are not in the ledger")
    if stored.logged > most:
        verdict.broken.append(f"{stored.logged - most} alerts are in the ledger and were never delivered")
    verdict.figures |= {
        "delivered": tap.delivered,
        "unanswered": tap.doubtful,
        "logged": stored.logged,
        "outcomes": dict(sorted(stored.outcomes.items())),
    }


def _alerts(verdict: Verdict, attacks: Sequence[Attack], stored: Stored) -> None:
    accounts = [attack.account for attack in attacks]
    twice = [account for account in accounts if len(stored.alerts.get(account, ())) > 1]
    _tell(verdict.broken, "attacks have two alerts", twice)
    _tell(verdict.missing, "attacks have no alert", [account for account in accounts if account not in stored.alerts])
    going = [account for account in accounts if "ACTIVE" in stored.alerts.get(account, ()) or stored.firing[account]]
    _tell(verdict.missing, "attacks are over and their alerts are not", going)
    _tell(verdict.missing, "attacks never reached Alertmanager", [one.account for one in attacks if not one.posted])
    verdict.figures |= {"attacks": len(accounts), "alerts": sum(len(found) for found in stored.alerts.values())}


def _messages(verdict: Verdict, attacks: Sequence[Attack], stored: Stored, slack: Slack) -> None:
    taken = Counter(one.notification_id for one in list(slack.taken))
    by_place: dict[tuple[str, str], list[Message]] = {}
    for message in stored.messages:
        by_place.setdefault((message.account, message.reason), []).append(message)
    for reason in TOLD:
        told = {attack.account: by_place.get((attack.account, reason), []) for attack in attacks}
        twice = [account for account, messages in told.items() if len(messages) > 1]
        _tell(verdict.broken, f"attacks have two messages `{reason}`", twice)
        unsent = [account for account, found in told.items() if not any(one.status == "SENT" for one in found)]
        _tell(verdict.missing, f"attacks have no message `{reason}`", unsent)
    never = [one.account for one in stored.messages if one.status == "SENT" and not taken[one.id]]
    _tell(verdict.broken, "messages are said to be sent and Slack never took them", never)
    dead = [one.account for one in stored.messages if one.status == "FAILED"]
    _tell(verdict.broken, "messages were given up", dead)
    waiting = [one.account for one in stored.messages if one.status in ("PENDING", "SENDING")]
    _tell(verdict.missing, "messages are still in the outbox", waiting)
    verdict.figures |= {"messages": len(stored.messages), "taken": taken.total()}


def _repeats(verdict: Verdict, stored: Stored, slack: Slack, broken_off: int) -> None:
    """A message that came again is known to, and there are no more of them than the drill has brought about."""
    taken = Counter(one.notification_id for one in list(slack.taken))
    more = [one.account for one in stored.messages if taken[one.id] > 1 + one.maybe_repeated]
    _tell(verdict.broken, "messages came to Slack more often than is known", more)
    repeated = sum(count - 1 for count in taken.values())
    if repeated > broken_off:
        verdict.broken.append(f"{repeated} messages came to Slack again, and the drill broke off {broken_off} calls")
    verdict.figures |= {
        "maybe_repeated": sum(one.maybe_repeated for one in stored.messages),
        "repeated": repeated,
        "broken_off": broken_off,
    }


def _tell(problems: list[str], what: str, accounts: Sequence[str]) -> None:
    if accounts:
        more = " …" if len(accounts) > _SHOWN else ""
        problems.append(f"{len(accounts)} {what}: {', '.join(accounts[:_SHOWN])}{more}")


def calls_of(alertmanager: str) -> int:
    """Calls of the webhook that Alertmanager counts as made, failed ones left out."""
    text = requests.get(f"{alertmanager}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    made, failed = (
        sum(one.value for one in samples if one.name == name and one.labels.get("integration") == "webhook")
        for name in ("alertmanager_notifications_total", "alertmanager_notifications_failed_total")
    )
    return int(made - failed)
