"""What writes the words of messages, wired: of the worker, and of the web process, which tries templates out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry

from webhook.adapters.llm import OpenAiModel
from webhook.adapters.prometheus import PrometheusHistory
from webhook.config import Settings
from webhook.pipeline.model_chain import ModelChain
from webhook.pipeline.summaries import BASELINE_SHARE, Summaries
from webhook.pipeline.summary_metrics import SummaryMetrics
from webhook.pipeline.surroundings import Surroundings
from webhook.storage.database import Database
from webhook.storage.model_tokens import TokenBudget
from webhook.storage.summary_facts import SummaryFacts
from webhook.summary_settings import ModelOptions


@dataclass(frozen=True, slots=True)
class Words:
    """`summaries` is None where no model is configured: the template's words need nobody."""

    surroundings: Surroundings
    summaries: Summaries | None
    close: Callable[[], None]


def build_words(
    settings: Settings,
    database: Database,
    registry: CollectorRegistry,
    clock: Callable[[], datetime],
    *,
    parallel: int = 8,
) -> Words:
    """`parallel`: messages that are written at once."""
    wanted = settings.summary_chain
    history = PrometheusHistory(settings.prometheus_url, timeout=wanted.budget.total_seconds() / BASELINE_SHARE)
    surroundings = Surroundings(SummaryFacts(database), history)
    if not wanted.models:
        return Words(surroundings, None, lambda: _close(surroundings, history))
    meter = SummaryMetrics(registry)
    chain = ModelChain(
        [_model(options, parallel) for options in wanted.models],
        meter,
        clock,
        TokenBudget(database, wanted.tokens_per_day) if wanted.tokens_per_day is not None else None,
        wanted.rest_after,
        wanted.rest.total_seconds(),
    )
    summaries = Summaries(
        chain,
        surroundings,
        meter,
        clock,
        similar_size=wanted.cache_size,
        similar_age=wanted.cache_age,
        batch_size=wanted.batch_size,
        batch_wait=min(wanted.batch_wait, wanted.budget / BASELINE_SHARE).total_seconds(),
        parallel=parallel,
    )
    return Words(surroundings, summaries, lambda: _close(summaries, history))


def _close(words: Summaries | Surroundings, history: PrometheusHistory) -> None:
    words.close()
    history.close()


def _model(options: ModelOptions, parallel: int) -> OpenAiModel:
    return OpenAiModel(
        model=options.model,
        name=options.name,
        api_key=options.api_key,
        base_url=options.base_url,
        timeout=options.timeout.total_seconds() if options.timeout is not None else None,
        max_tokens=options.max_tokens,
        price_in=options.price_in,
        price_out=options.price_out,
        parallel=parallel,
    )
