"""What is known of the time before and beside the triggers that are replayed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

NEVER = datetime.max.replace(tzinfo=UTC)


class Attack(NamedTuple):
    """One stored alert: its condition, its first trigger, and when it was closed and whether by a person."""

    condition: str
    begun: datetime
    ended: datetime | None
    by_person: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Triggers of one account and type since a time, with what happened before as far as `earliest`.

    At most `limit` triggers, and then the latest. What ended at most `remembered` before still matters. `labels`:
    whether conditions may name them. `pause` is called between reads and may raise.
    """

    account_id: str
    alert_type: str
    since: datetime
    earliest: datetime
    remembered: timedelta
    limit: int
    labels: bool = True
    pause: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Past:
    """What happened beside the triggers.

    `since`: from when on triggers are compared. `starts`: of these conditions triggers are replayed from that time:
    earlier, for an attack that was going on at `since`, or later, after one whose beginning is not known any more.
    `closings`: when people closed the alert of a condition, by time. `sent`: when what was decided at a time about a
    condition went out, None while it waits. `notified`: when people were told of what is not replayed. `closed`:
    instances whose alert a person had closed before their condition is replayed. `left_out`: alerts that are not
    compared, since they began before what is known.
    """

    since: datetime
    closings: Sequence[tuple[datetime, str]] = ()
    sent: Mapping[tuple[str, datetime], datetime | None] = field(default_factory=dict)
    notified: Sequence[datetime] = ()
    closed: frozenset[tuple[str, datetime]] = frozenset()
    starts: Mapping[str, datetime] = field(default_factory=dict)
    left_out: int = 0

    def start_of(self, condition: str) -> datetime:
        return self.starts.get(condition, self.since)


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


def left_out(
    attacks: Iterable[Attack], unknown: Mapping[str, datetime], remembered: timedelta
) -> tuple[dict[str, datetime], int]:
    """Until when the conditions in `unknown` cannot be replayed, and how many alerts that leaves out.

    `unknown`: from when on their triggers are known, in the midst of an attack. They are replayed once that, and what
    followed it within `remembered`, is over.
    """
    of_condition: defaultdict[str, list[Attack]] = defaultdict(list)
    for attack in sorted(attacks, key=attrgetter("begun")):
        if attack.condition in unknown:
            of_condition[attack.condition].append(attack)
    starts, number = {}, 0
    for condition, known_from in unknown.items():
        start = known_from
        for attack in of_condition[condition]:
            if attack.begun > start or start == NEVER:
                break
            over = NEVER if attack.ended is None else attack.ended + remembered
            if over > known_from:
                start, number = max(start, over), number + 1
        starts[condition] = start
    return starts, number
