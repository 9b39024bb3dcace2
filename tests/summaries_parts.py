"""Models, chains and all that writes words, over stub servers, for tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from fakes_llm import LlmStub
from notes import NOW
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from webhook.adapters.llm import OpenAiModel
from webhook.domain.circumstances import NOTHING_KNOWN, Circumstances
from webhook.domain.message import Note
from webhook.pipeline.model_chain import ModelChain
from webhook.pipeline.summaries import Summaries
from webhook.pipeline.summary_metrics import SummaryMetrics
from webhook.pipeline.surroundings import Surroundings

KEY = "sk-very-secret"
MINUTE = timedelta(minutes=1)
LONG = 60.0


@dataclass
class Facts:
    """As the store would say; `ask` may hang or fail."""

    known: Circumstances = NOTHING_KNOWN
    ask: Callable[[], object] = lambda: None

    def around(self, _: Note) -> Circumstances:
        self.ask()
        return self.known


@dataclass
class Desk:
    """Everything that writes words, wired to stubs; closed with `with`."""

    models: int = 1
    facts: Facts = field(default_factory=Facts)
    history: Any = None
    tokens: Any = None
    chain: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    now: datetime = NOW

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.stubs = [self._stack.enter_context(LlmStub()) for _ in range(self.models)]
        self.registry = CollectorRegistry()
        self.meter = SummaryMetrics(self.registry)
        models = [
            OpenAiModel(model=f"stub-{n}", api_key=SecretStr(KEY), base_url=stub.url, **self.options)
            for n, stub in enumerate(self.stubs, 1)
        ]
        self.asking = ModelChain(models, self.meter, lambda: self.now, self.tokens, **self.chain)
        surroundings = Surroundings(self.facts, self.history)
        self.words = Summaries(self.asking, surroundings, self.meter, lambda: self.now, **self.settings)
        self._stack.callback(self.words.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def stub(self) -> LlmStub:
        return self.stubs[0]

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"sentinel_summar{name}", labels) or 0.0

    def outcome(self, outcome: str, model: str = "stub-1") -> float:
        return self.figure("ies_total", source=model, outcome=outcome)
