"""Work that arrives at the same time is done together: whoever waits while one piece is done goes with the next.

Whoever finds nobody at work does what waits, its own first. Nobody waits for others to come: what is alone goes at
once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST = 64


class TurnMissed(Exception):  # noqa: N818 - a state of those before
    """What came before was not done within the patience that there was."""


@dataclass(slots=True, eq=False)
class _Wish(Generic[T, R]):
    """`result` is empty until it is done; `turn` is set then, or when it is to lead. `alone`: its group failed."""

    item: T
    turn: threading.Event = field(default_factory=threading.Event)
    result: list[R] = field(default_factory=list)
    alone: bool = False


class Turns(Generic[T, R]):
    """`do` gets what waits, in its order, and returns a result for each.

    A group weighs at most `most`, unless a single item does more; each weighs 1 where `weight` says nothing else.
    """

    def __init__(
        self,
        do: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int = MOST,
        weight: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._do, self._most, self._weight = do, most, weight
        self._lock = threading.Lock()
        self._waiting: deque[_Wish[T, R]] = deque()
        self._led = False

    def __call__(self, item: T, patience: float | None = None) -> R:
        """The result for `item`; raise TurnMissed after `patience` seconds.

        Where a group fails each is done by itself, so that one harms no other.
        """
        own: _Wish[T, R] = _Wish(item)
        if self._must_wait(own) and not own.turn.wait(patience):
            self._give_up(own)
        if not own.result and not own.alone:
            self._lead()
        return own.result[0] if own.result else self._do([item])[0]

    @property
    def waiting(self) -> int:
        """How many wait for the group that is being done."""
        return len(self._waiting)

    def _must_wait(self, own: _Wish[T, R]) -> bool:
        with self._lock:
            self._waiting.append(own)
            led, self._led = self._led, True
            return led

    def _give_up(self, own: _Wish[T, R]) -> None:
        """Unless its turn has come in the last moment."""
        with self._lock:
            if own.turn.is_set():
                return
            if own in self._waiting:  # else its group is being done, and may yet be
                self._waiting.remove(own)
        raise TurnMissed

    def _lead(self) -> None:
        """Do what waits, longest first, and hand on to the first of those that came meanwhile."""
        group = self._take()
        try:
            self._do_all(group)
        finally:
            with self._lock:
                self._led = bool(self._waiting)
                if self._led:
                    self._waiting[0].turn.set()
            for wish in group:
                wish.turn.set()

    def _take(self) -> list[_Wish[T, R]]:
        """The leader's own is the first."""
        with self._lock:
            group = [self._waiting.popleft()]
            total = self._weight(group[0].item)
            while self._waiting and total + self._weight(self._waiting[0].item) <= self._most:
                group.append(self._waiting.popleft())
                total += self._weight(group[-1].item)
        return group

    def _do_all(self, group: Sequence[_Wish[T, R]]) -> None:
        for wish in group[1:]:
            wish.alone = True
        try:
            results = self._do([wish.item for wish in group])
        except Exception:
            if len(group) == 1:
                raise
            group[0].alone = True
            return  # whose fault it was shows when each is done by itself
        for wish, result in zip(group, results, strict=True):
            wish.result.append(result)
