"""Models in order, within one time limit and one budget of tokens, until one of them gives an answer that holds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Protocol, TypeVar

from webhook.domain.answer import answer_schema
from webhook.domain.prompt import Prompt
from webhook.domain.rest import Rest
from webhook.domain.summary import SummaryRefused
from webhook.model_ports import Model, ModelAnswer, ModelFailed
from webhook.pipeline.summary_metrics import SummaryMetrics
from webhook.ports import StoreUnavailable

TRIES = 3
"""Over all models together."""

PAUSE = 0.2  # seconds before a model is asked a second time, doubled before the third
T = TypeVar("T")


class TokenAccount(Protocol):
    """Tokens of a day, over all processes. Both may raise StoreUnavailable."""

    def reserve(self, tokens: int, now: datetime) -> bool:
        """False where the day's budget does not hold so many more."""

    def correct(self, tokens: int, now: datetime) -> None:
        """Add what was too little, or take back what was too much (negative), for the day of `now`."""


class _Passed(Exception):  # noqa: N818 - no failure of the model
    """The model was not asked."""


@dataclass(slots=True)
class ModelChain:
    """Any number of threads may ask. Rests are this process's own: each learns of a failing model by itself."""

    models: Sequence[Model]
    meter: SummaryMetrics
    clock: Callable[[], datetime]
    tokens: TokenAccount | None = None
    rest_after: int = 3
    rest_seconds: float = 30.0
    _rests: dict[str, Rest] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rests = {model.name: Rest(self.rest_after, self.rest_seconds) for model in self.models}

    def ask(self, prompt: Prompt, answers: int, deadline: float, check: Callable[[str, str], T]) -> T:
        """What `check` makes of the first text that it takes, given the model's name; else raise SummaryRefused.

        `deadline` is in monotonic seconds. A model that failed but may work soon comes again after the others.
        """
        waiting = deque((model, 0.0) for model in self.models)
        called, why = dict[str, int](), list[str]()
        while waiting and sum(called.values()) < TRIES:
            model, ready = waiting.popleft()
            if not _waited(ready, deadline):
                why.append(f"{model.name}: no time left")
                continue
            seconds = _share(model, deadline, 1 + len(waiting))
            try:
                return self._one(model, prompt, answers, seconds, check)
            except _Passed as passed:
                why.append(f"{model.name}: {passed}")
                continue
            except SummaryRefused as refusal:
                why.append(f"{model.name}: {refusal}")
            except ModelFailed as failure:
                why.append(f"{model.name}: {failure}")
                if failure.again:
                    pause = PAUSE * 2 ** called.get(model.name, 0)
                    waiting.append((model, monotonic() + max(pause, failure.retry_after or 0)))
            called[model.name] = called.get(model.name, 0) + 1
        raise SummaryRefused("; ".join(why) or "no model")

    def close(self) -> None:
        for model in self.models:
            if (close := getattr(model, "close", None)) is not None:
                close()

    def _one(self, model: Model, prompt: Prompt, answers: int, seconds: float, check: Callable[[str, str], T]) -> T:
        with self._lock:
            if not self._rests[model.name].allows(monotonic()):
                self.meter.outcome(model.name, "rested")
                raise _Passed("rested")
        estimate = prompt.tokens() + model.max_tokens * answers
        reserved_at = self._reserve(model, estimate)
        began = monotonic()
        try:
            answer = model.ask(prompt, answer_schema(answers), seconds, answers=answers)
        except ModelFailed as failure:
            self._failed(model, failure, monotonic() - began)
            if failure.billed:  # and how much for, nobody says: the estimate stands
                self.meter.used(model, prompt.tokens(), estimate - prompt.tokens())
            else:
                self._count(model, ModelAnswer("", 0, 0), prompt, estimate, reserved_at)
            raise
        with self._lock:
            self._rests[model.name].worked()
        self._count(model, answer, prompt, estimate, reserved_at)
        try:
            checked = check(answer.text, model.name)
        except SummaryRefused:
            self.meter.answered(model.name, "refused", monotonic() - began)
            raise
        self.meter.answered(model.name, "generated", monotonic() - began)
        return checked

    def _reserve(self, model: Model, estimate: int) -> datetime:
        """When it was counted; raise _Passed where the day's budget is used up, or cannot be asked."""
        now = self.clock()
        if self.tokens is None:
            return now
        outcome = "over_budget"
        try:
            if self.tokens.reserve(estimate, now):
                return now
        except StoreUnavailable:
            outcome = "uncounted"
        with self._lock:
            self._rests[model.name].not_asked()
        self.meter.outcome(model.name, outcome)
        raise _Passed(outcome)

    def _failed(self, model: Model, failure: ModelFailed, seconds: float) -> None:
        self.meter.answered(model.name, failure.kind, seconds)
        with self._lock:
            rest = self._rests[model.name]
            if failure.at_fault:
                rest.failed(monotonic(), at_once=failure.lasting, asked_s=failure.retry_after)
            else:
                rest.not_asked()

    def _count(self, model: Model, answer: ModelAnswer, prompt: Prompt, estimate: int, reserved_at: datetime) -> None:
        """Correct the estimate by what the provider counted; where it did not, the prompt's own estimate stands."""
        tokens_in = prompt.tokens() if answer.tokens_in is None else answer.tokens_in
        tokens_out = len(answer.text.encode()) // 2 if answer.tokens_out is None else answer.tokens_out
        self.meter.used(model, tokens_in, tokens_out)
        if self.tokens is None:
            return
        try:
            self.tokens.correct(tokens_in + tokens_out - estimate, reserved_at)
        except StoreUnavailable:
            self.meter.outcome(model.name, "uncounted")  # the estimate stays, which is more


def _waited(ready: float, deadline: float) -> bool:
    """Until it is time; False where that comes too late."""
    pause = max(0.0, ready - monotonic())
    if monotonic() + pause >= deadline:
        return False
    if pause:
        time.sleep(pause)
    return True


def _share(model: Model, deadline: float, models: int) -> float:
    """What of the time is this call's: its own limit, else an equal part of what is left for the models to come."""
    left = deadline - monotonic()
    return min(left, left / models if model.timeout is None else model.timeout)
