"""What models were asked, what they answered, and what it cost."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from webhook.model_ports import Model


class SummaryMetrics:
    """Of one process. Outcomes of a model: generated, refused, timeout, failed, busy, rested, over_budget."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._summaries = Counter("sentinel_summaries", "Answers of models.", ["source", "outcome"], registry=registry)
        self._seconds = Histogram(
            "sentinel_summary_seconds",
            "From asking a model to its answer or refusal.",
            ["source"],
            buckets=(0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 30),
            registry=registry,
        )
        self._tokens = Counter(
            "sentinel_summary_tokens",
            "Tokens, counted by the provider or estimated.",
            ["source", "direction"],
            registry=registry,
        )
        self._cost = Counter(
            "sentinel_summary_cost",
            "Price of these tokens, in the currency of the configured prices.",
            ["source"],
            registry=registry,
        )
        self._texts = Counter(
            "sentinel_summary_texts", "Words for messages, by where they came from.", ["source"], registry=registry
        )
        self._cache = Counter(
            "sentinel_summary_cache",
            "Looks into the cache of similar metrics: hit, untrue, miss.",
            ["outcome"],
            registry=registry,
        )
        self._batches = Histogram(
            "sentinel_summary_batch_alerts",
            "Alerts asked about in one call.",
            buckets=(1, 2, 4, 8, 16),
            registry=registry,
        )

    def answered(self, source: str, outcome: str, seconds: float) -> None:
        """Of a call that was made."""
        self.outcome(source, outcome)
        self._seconds.labels(source).observe(seconds)

    def outcome(self, source: str, outcome: str, number: int = 1) -> None:
        self._summaries.labels(source, outcome).inc(number)

    def used(self, model: Model, tokens_in: int, tokens_out: int) -> None:
        self._tokens.labels(model.name, "in").inc(tokens_in)
        self._tokens.labels(model.name, "out").inc(tokens_out)
        self._cost.labels(model.name).inc(cost(model, tokens_in, tokens_out))

    def text(self, source: str) -> None:
        """`source`: model, cache or template."""
        self._texts.labels(source).inc()

    def cache(self, outcome: str) -> None:
        self._cache.labels(outcome).inc()

    def batch(self, alerts: int) -> None:
        self._batches.observe(alerts)


def cost(model: Model, tokens_in: int, tokens_out: int) -> float:
    return (tokens_in * model.price_in + tokens_out * model.price_out) / 1_000_000
