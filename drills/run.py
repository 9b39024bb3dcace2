"""One run of a drill: load, fault, and then waiting until everything is as it should be, or plainly is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from drills.load import Attack, Load
from drills.stack import REPEAT_S, Needs, Stack, running
from drills.store import Stored
from drills.verify import Verdict, calls_of, verify
from tests.servers import wait_for

_PATIENCE_S = 240.0
"""For the end of a run that goes well; how long it took is a figure and decides nothing."""

_CONTROL_S = 10.0
"""For the end of a control run, beside the time of sessions and leases: what is not there then is not coming."""

_LOOK_S = 0.5
_TELL_S = 10.0
_STORE_S = 120.0
_CARRIED_ON = 5  # attacks
_HELD_S = 1.0  # what began so long before the fault may not have been delivered yet
_AFTER_S = 3.0  # attacks begin for so long after the fault

Say = Callable[[str], None]


@dataclass(frozen=True)
class Drill:
    """A fault under load. `fault` brings it about, and returns when it is over.

    `carries_on`: attacks that begin in it are told in it. `without`: what `serve` or `worker` lacks in the control
    run, by command; a fault that is handled by whoever operates the stack looks at `Run.control` itself.
    """

    id: str
    help: str
    control: str
    fault: Callable[[Run], None]
    needs: Needs = field(default_factory=Needs)
    without: Mapping[str, str] = field(default_factory=dict)
    carries_on: bool = False
    control_needs: Mapping[str, Any] = field(default_factory=dict)
    gap: float = 0.35
    length: float = 4.0
    before: float = 4.0

    def needs_of(self, *, control: bool) -> Needs:
        return replace(self.needs, without=self.without, **self.control_needs) if control else self.needs


@dataclass
class Result:
    """How a run went. `recovery`: s from the end of the fault to the next message, and to the last one it held up."""

    drill: str
    control: bool
    verdict: Verdict
    seconds: float
    fault_s: float = 0.0
    first_s: float | None = None
    caught_up_s: float | None = None
    crashed: bool = False  # the drill itself did not work out, which says nothing of the product

    @property
    def passed(self) -> bool:
        """A control run passes by failing."""
        return not self.crashed and self.verdict.holds != self.control


@dataclass
class Run:
    """What a fault has in hand."""

    drill: Drill
    control: bool
    stack: Stack
    load: Load
    say: Say
    exits: ExitStack
    """What a fault has started ends with it."""

    fault_began: float = 0.0
    fault_ended: float = 0.0
    broken: list[str] = field(default_factory=list)
    broken_off: int = 0
    """Calls that the fault broke off when Slack had the message."""

    caught_up: float | None = None

    @property
    def attacks(self) -> list[Attack]:
        return list(self.load.attacks)

    def told(self, accounts: set[str]) -> set[str]:
        """Of these, who has got a first message."""
        rows = self.read().messages
        return {
            row.account for row in rows if row.account in accounts and row.reason == "first" and row.status == "SENT"
        }

    def read(self) -> Stored:
        """The store, as soon as it can be read."""
        until = time.monotonic() + _STORE_S
        while True:
            try:
                return self.stack.store.read()
            except sa.exc.SQLAlchemyError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def carried_on(self) -> None:
        """Wait until some attacks that began in the fault are told; that they are not is what is broken."""
        until, told = time.monotonic() + (10 if self.control else 90), set[str]()
        while time.monotonic() < until:
            accounts = {one.account for one in self.attacks if one.began >= self.fault_began}
            if len(told := self.told(accounts)) >= _CARRIED_ON:
                return
            time.sleep(_LOOK_S)
        self.broken.append(f"{len(told)} of {len(accounts)} attacks that began in the fault were told while it lasted")

    def verify(self) -> Verdict:
        delivered = self.stack.tap.delivered
        tap, slack = self.stack.tap, self.stack.slack
        verdict = verify(self.attacks, delivered, tap, self.read(), slack, broken_off=self.broken_off)
        verdict.broken[:0] = [*self.broken, *self.load.refused]
        return verdict


def run(drill: Drill, *, control: bool, say: Say) -> Result:
    """Start everything, do the worst, look at what is left."""
    began = time.monotonic()
    with ExitStack() as stack:
        started = stack.enter_context(running(drill.needs_of(control=control)))
        one = Run(drill, control, started, Load(started.alertmanager, drill.gap, drill.length), say, stack)
        say(f"started in {time.monotonic() - began:.0f} s")
        one.load.start()
        stack.callback(one.load.finish)
        wait_for(lambda: started.slack.taken, what="the first message", timeout=120)
        time.sleep(drill.before)
        _fault(one)
        verdict = _watch(one)
        first = [taken.at for taken in started.slack.taken if taken.at >= one.fault_ended]
        return Result(
            drill.id,
            control,
            verdict,
            seconds=time.monotonic() - began,
            fault_s=one.fault_ended - one.fault_began,
            first_s=min(first) - one.fault_ended if first else None,
            caught_up_s=one.caught_up - one.fault_ended if one.caught_up is not None else None,
        )


def _fault(one: Run) -> None:
    one.fault_began = time.monotonic()
    one.load.hold_since = one.fault_began - _HELD_S
    one.say("fault begins")
    one.drill.fault(one)
    one.fault_ended = time.monotonic()
    one.say(f"fault is over after {one.fault_ended - one.fault_began:.0f} s")


def _watch(one: Run) -> Verdict:
    """Until all is as it should be and stays so, or something is broken, or time is up."""
    hurt = {attack.account for attack in one.attacks}
    if not one.control:
        time.sleep(_AFTER_S)
    one.load.no_more()
    extra = one.drill.needs.session_timeout + (one.drill.needs.lease or 0) + 2 * one.drill.length
    until = time.monotonic() + (_CONTROL_S + extra if one.control else _PATIENCE_S)
    told = time.monotonic()
    while True:
        if one.caught_up is None and one.told(hurt) == hurt:
            one.caught_up = time.monotonic()
            one.load.hold_since = None
        verdict = one.verify()
        if verdict.broken or time.monotonic() > until:
            return verdict
        if verdict.holds and one.load.over():
            return _still(one)
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            one.say(f"waiting: {verdict.missing[0] if verdict.missing else 'the load ends'}")
        time.sleep(_LOOK_S)


def _still(one: Run) -> Verdict:
    """It is over: nothing comes after it, though Alertmanager repeats once more what it has."""
    time.sleep(REPEAT_S)
    verdict = one.verify()
    calls, tapped = calls_of(one.stack.alertmanager), one.stack.tap.calls
    verdict.figures["alertmanager_calls"] = calls
    if one.stack["alertmanager"].starts == 1 and calls > tapped:
        verdict.broken.append(f"Alertmanager made {calls} calls and {tapped} came")
    return verdict
