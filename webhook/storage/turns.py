"""Small writes that come at the same time share a transaction: whoever waits while one is made goes with the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST = 64


@dataclass(slots=True, eq=False)
class _Wish(Generic[T, R]):
    item: T
    turn: threading.Event = field(default_factory=threading.Event)
    result: list[R] = field(default_factory=list)
    alone: bool = False


class Turns(Generic[T, R]):
    """`do` gets what waits, in its order, and returns a result for each. Nobody waits for others to come."""

    def __init__(self, do: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._waiting: list[_Wish[T, R]] = []
        self._led = False

    def __call__(self, item: T) -> R:
        """The result for `item`; where a group fails each is done by itself, so that one harms no other."""
        own: _Wish[T, R] = _Wish(item)
        with self._lock:
            self._waiting.append(own)
            wait, self._led = self._led, True
        if wait:
            own.turn.wait()
        if not own.result and not own.alone:
            self._lead()
        return own.result[0] if own.result else self._do([item])[0]

    def _lead(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._do_all(group)
        finally:
            with self._lock:
                self._led = bool(self._waiting)
                if self._led:
                    self._waiting[0].turn.set()
            for wish in group:
                wish.turn.set()

    def _do_all(self, group: Sequence[_Wish[T, R]]) -> None:
        for wish in group[1:]:
            wish.alone = True
        try:
            results = self._do([wish.item for wish in group])
        except Exception:
            if len(group) == 1:
                raise
            group[0].alone = True
            return
        for wish, result in zip(group, results, strict=True):
            wish.result.append(result)
