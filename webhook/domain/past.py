"""What is known of the time before and beside the triggers that are replayed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

from webhook.domain.triggers import Triggers

NEVER = datetime.max.replace(tzinfo=UTC)


class Attack(NamedTuple):
    """One stored alert: its condition, its first trigger, and when it was closed and whether by a person."""

    condition: str
    begun: datetime
    ended: datetime | None
    by_person: bool
    alert_id: str = ""
    told: bool = False  # people of its end
    rises: int = 0  # in severity, by its duration


@dataclass(frozen=True, slots=True)
class Wanted:
    """Triggers of one account and type since a time, with what happened before as far as `earliest`.

    At most `limit` triggers, and then the latest. What ended at most `remembered` before still matters. `names`: what
    conditions name. `check` is called between reads and may raise.
    """

    account_id: str
    alert_type: str
    since: datetime
    earliest: datetime
    remembered: timedelta
    limit: int
    names: Sequence[str] = ()
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Past:
    """What happened beside the triggers.

    `since`: from when on triggers are compared. `starts`: of these conditions triggers are replayed from that time:
    earlier, for an attack that was going on at `since`, or later, after one whose beginning is not known any more;
    then they are compared from the time in `compared`. `left_out` alerts are not, or not wholly. `closings`: when
    people closed the alert of a condition, by time. `sent`: when what was decided at a time about a condition went
    out, None while it waits. `resent`: when what a person had asked for went out, by time. `notified`: when people
    were told of what is not replayed. `closed`: instances whose alert a person closed before they are replayed.
    `channels`: on which was told what was decided at a time about a condition. `ended`: alerts that time ended and
    people were told of, `rises`: how often time made alerts graver.
    """

    since: datetime
    closings: Sequence[tuple[datetime, str]] = ()
    sent: Mapping[tuple[str, datetime], datetime | None] = field(default_factory=dict)
    resent: Sequence[tuple[datetime, str]] = ()
    notified: Sequence[datetime] = ()
    closed: frozenset[tuple[str, datetime]] = frozenset()
    starts: Mapping[str, datetime] = field(default_factory=dict)
    compared: Mapping[str, datetime] = field(default_factory=dict)
    left_out: int = 0
    channels: Mapping[tuple[str, datetime], frozenset[str]] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    rises: Mapping[str, int] = field(default_factory=dict)

    def start_of(self, condition: str) -> datetime:
        return self.starts.get(condition, self.since)


class Stored(NamedTuple):
    """What is stored of it. Each step of `more` adds whole deliveries to `triggers`, in the order of their times."""

    past: Past
    triggers: Triggers
    more: Iterator[None]


def beginnings(attacks: Iterable[Attack], since: datetime, remembered: timedelta) -> dict[str, datetime]:
    """By condition, when the attack began that was going on at `since`.

    With those before it that ended at most `remembered` before the next one began.
    """
    begun: dict[str, datetime] = {}
    for attack in sorted(attacks, key=attrgetter("begun"), reverse=True):
        start = begun.get(attack.condition, since)
        if attack.begun < start and (attack.ended is None or attack.ended >= start - remembered):
            begun[attack.condition] = attack.begun
    return begun


def known_past(
    attacks: Sequence[Attack], beginning: Container[tuple[str, datetime]], since: datetime, remembered: timedelta
) -> Past:
    """From when on conditions are replayed and compared.

    `beginning`: when attacks begin among the triggers that are there. After one that is not among them a condition is
    replayed, and compared once nothing of it is remembered.
    """
    starts, compared, number = beginnings(attacks, since, remembered), dict[str, datetime](), 0
    for attack in attacks:
        matters = attack.ended is None or attack.ended + remembered > since
        if matters and (attack.condition, attack.begun) not in beginning:
            over = NEVER if attack.ended is None else max(since, attack.ended)
            starts[attack.condition] = max(over, compared.get(attack.condition, since))
            compared[attack.condition] = starts[attack.condition]
    for condition, start in compared.items():
        compared[condition] = start if start == NEVER else start + remembered
        number += sum(_is_in(attack, condition, since, compared[condition]) for attack in attacks)
    return Past(since, starts=starts, compared=compared, left_out=number)


def _is_in(attack: Attack, condition: str, since: datetime, until: datetime) -> bool:
    going_on = attack.begun < until and (attack.ended is None or attack.ended > since)
    return attack.condition == condition and going_on
