"""Words for a message, in time: the models', else those of an alert much like it, else the template's.

Everything that may take long happens in threads of its own. Whoever asks waits until the time is over and no longer,
whatever a model, the store or Prometheus does meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

import structlog
from cachetools import LRUCache, TTLCache

from webhook.domain.answer import check_summaries, check_words
from webhook.domain.circumstances import Circumstances, is_urgent
from webhook.domain.message import Note, Summary
from webhook.domain.prompt import Prompt, build_prompts
from webhook.domain.similar import Key, likeness
from webhook.domain.summary import SummaryRefused, template_summary
from webhook.pipeline.gathering import Gathering
from webhook.pipeline.model_chain import ModelChain
from webhook.pipeline.summary_metrics import SummaryMetrics
from webhook.pipeline.surroundings import Surroundings

MOST_SAME = 256
BASELINE_SHARE = 5
"""The part of the time that is given to finding out what is usual: a fifth."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Asked:
    """One alert that words are wanted for."""

    note: Note
    deadline: float  # monotonic seconds
    words: Future[Summary] = field(default_factory=Future)
    around: Circumstances | None = None


@dataclass(slots=True)
class Summaries:
    """A message that goes out on several channels, or once more after a failure, is asked for once."""

    chain: ModelChain
    surroundings: Surroundings
    meter: SummaryMetrics
    clock: Callable[[], datetime]
    similar_size: int = 500
    similar_age: timedelta = timedelta(hours=1)
    batch_size: int = 8
    batch_wait: float = 0.3
    parallel: int = 8
    _threads: ThreadPoolExecutor = field(init=False)
    _free: threading.BoundedSemaphore = field(init=False)
    _gathering: Gathering[_Asked] = field(init=False)
    _similar_texts: TTLCache[Key, Summary] = field(init=False)
    _same: LRUCache[Key, _Asked] = field(init=False, default_factory=lambda: LRUCache(MOST_SAME))
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.parallel, thread_name_prefix="summary")
        self._free = threading.BoundedSemaphore(self.parallel)
        self._gathering = Gathering(self.batch_size, self.batch_wait)
        self._similar_texts = TTLCache(
            self.similar_size, self.similar_age.total_seconds(), lambda: self.clock().timestamp()
        )

    def summarise(self, note: Note, timeout: timedelta) -> Summary:
        """Words within `timeout`, whatever happens. Raises nothing."""
        deadline = monotonic() + timeout.total_seconds()
        asked = self._ask(note, deadline)
        try:
            summary = asked.words.result(max(0.0, deadline - monotonic()))
        except TimeoutError:
            return self._otherwise(note, asked.around, f"no answer within {timeout.total_seconds():g} s")
        except SummaryRefused as refusal:
            return self._otherwise(note, asked.around, str(refusal))
        self.meter.text("model")
        _log(note).info("ai_summary_generated", model=summary.source, opinion=summary.opinion)
        return summary

    def trial(self, note: Note, around: Circumstances, timeout: timedelta) -> Summary:
        """What a model makes of it now, kept nowhere; raise SummaryRefused."""
        pair = (note, around)
        (answer,) = self._checked([pair], build_prompts([pair]), monotonic() + timeout.total_seconds())
        if isinstance(answer, SummaryRefused):
            raise answer
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.surroundings.close()
        self.chain.close()

    def _ask(self, note: Note, deadline: float) -> _Asked:
        """Who asks for words that are under way, or were written, gets those."""
        key = (note.alert_id, note.created_at, note.reason, note.severity, note.occurrence_count)
        with self._lock:
            if (same := self._same.get(key)) is not None and not _failed(same):
                return same
            asked = self._same[key] = _Asked(note, deadline)
        _log(note).info("ai_summary_requested", models=[model.name for model in self.chain.models])
        if not self._free.acquire(blocking=False):
            asked.words.set_exception(SummaryRefused("as many summaries as may be are under way"))
            return asked
        self._threads.submit(self._work, asked)
        return asked

    def _work(self, asked: _Asked) -> None:
        try:
            together = [asked] if is_urgent(asked.note) else self._gathering.join(asked.note.account_id, asked)
            if together:
                self._answer(together)
        finally:
            self._free.release()

    def _answer(self, together: Sequence[_Asked]) -> None:
        """Each gets its words or its refusal."""
        try:
            answers = self._answers(together)
        except SummaryRefused as refusal:
            answers = [refusal] * len(together)
        except Exception as error:
            log.exception("summary_failed", error=type(error).__name__)
            answers = [SummaryRefused(f"failed here: {type(error).__name__}")] * len(together)
        for asked, answer in zip(together, answers, strict=True):
            if isinstance(answer, SummaryRefused):
                asked.words.set_exception(answer)
                continue
            if asked.around is not None:
                with self._lock:
                    self._similar_texts[likeness(asked.note, asked.around)] = answer
            asked.words.set_result(answer)

    def _answers(self, together: Sequence[_Asked]) -> Sequence[Summary | SummaryRefused]:
        deadline = min(asked.deadline for asked in together)
        seconds = (deadline - monotonic()) / BASELINE_SHARE
        around = self.surroundings.of([asked.note for asked in together], max(0.0, seconds))
        for asked, one in zip(together, around, strict=True):
            asked.around = one
        pairs = [(asked.note, one) for asked, one in zip(together, around, strict=True)]
        prompt = build_prompts(pairs)
        self.meter.batch(len(together))
        return self._checked(pairs, prompt, deadline)

    def _checked(
        self, pairs: Sequence[tuple[Note, Circumstances]], prompt: Prompt, deadline: float
    ) -> Sequence[Summary | SummaryRefused]:
        def check(text: str, model: str) -> list[Summary | SummaryRefused]:
            answers = check_summaries(text, pairs, model, prompt)
            self.meter.outcome(model, "refused", sum(isinstance(answer, SummaryRefused) for answer in answers))
            return answers

        return self.chain.ask(prompt, len(pairs), deadline, check)

    def _otherwise(self, note: Note, around: Circumstances | None, why: str) -> Summary:
        summary = self._similar(note, around) if around is not None else None
        source = "template" if summary is None else "cache"
        self.meter.text(source)
        _log(note).warning("ai_summary_refused", why=why[:500], instead=source)
        return summary or template_summary(note)

    def _similar(self, note: Note, around: Circumstances) -> Summary | None:
        """A text for an alert much like this one, where every number in it is true for this one too."""
        with self._lock:
            found = self._similar_texts.get(likeness(note, around))
        if found is None:
            self.meter.cache("miss")
            return None
        try:
            check_words(found, note, around)
        except SummaryRefused:
            self.meter.cache("untrue")
            return None
        self.meter.cache("hit")
        return found


def _failed(asked: _Asked) -> bool:
    return asked.words.done() and asked.words.exception() is not None


def _log(note: Note) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        trace_id=note.notification_id,
        alert_id=note.alert_id,
        notification_id=note.notification_id,
        merchant_id=note.account_id,
    )
    return bound
