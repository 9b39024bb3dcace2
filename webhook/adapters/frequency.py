"""Frequency limits in Redis, for any number of receivers: a moving window by the `limits` library.

Keys follow the owner's documents: `freq_ctrl:merchant:<id>:alert:<type>:hour`, `…:day`, `…:last`. Places are taken
before the transaction commits and given back when it does not. While Redis is away the store decides alone; it is
asked again after a pause, and a delivery waits for it no longer than `TIMEOUT_S`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import quote

import structlog
from limits.storage import RedisStorage
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from webhook.domain.ledger import Claim
from webhook.domain.throttle import FrequencyRule

TIMEOUT_S = 0.25
PAUSE_S = 5.0

_WINDOWS = {"min_interval_minutes": "last", "max_alerts_per_hour": "hour", "max_alerts_per_day": "day"}

log = structlog.get_logger(__name__)


class FrequencyMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "sentinel_frequency_backend_up",
            "Whether Redis answered when it was last asked.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.errors = Counter(
            "sentinel_frequency_backend_errors", "Calls that Redis did not answer.", registry=registry
        )


@dataclass(frozen=True, slots=True)
class Taken:
    granted: Sequence[bool]
    _give_back: Callable[[], None]

    def give_back(self) -> None:
        self._give_back()


class RedisPlaces:
    """Places within the limits, shared by all processes. Calls raise nothing; see `webhook.ports.FrequencyPlaces`."""

    def __init__(
        self, url: str, metrics: FrequencyMetrics, *, pause_s: float = PAUSE_S, clock: Callable[[], float] = monotonic
    ) -> None:
        """`clock` gives seconds that only grow; Redis is asked nothing before it is needed."""
        self._storage = RedisStorage(
            url,
            key_prefix="freq_ctrl",
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
        )
        self._metrics = metrics
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._ask_again_at = -math.inf
        metrics.up.set(1)

    def take(self, claims: Sequence[Claim]) -> Taken | None:
        """Places for claims that get one; one that the limits do not hold for fills a place where there is one."""
        if self._clock() < self._ask_again_at:
            return None
        taken: list[str] = []
        granted = []
        try:
            for claim in claims:
                keys = self._acquire(claim)
                taken += keys or ()
                granted.append(keys is not None or not claim.limited)
        except RedisError as error:
            self._failed(error)
            return None
        self._answered()
        return Taken(granted, lambda: self._give_back(taken))

    def _acquire(self, claim: Claim) -> list[str] | None:
        """The keys in which a place was taken: all that are in force, or None."""
        taken: list[str] = []
        for rule in claim.policy.limits():
            key = _key(claim.key, rule)
            if self._storage.acquire_entry(key, rule.maximum, math.ceil(rule.window.total_seconds())):
                taken.append(key)
            elif claim.limited:
                self._release(taken)
                return None
        return taken

    def _give_back(self, taken: Iterable[str]) -> None:
        try:
            self._release(taken)
        except RedisError as error:
            self._failed(error)  # they become free with their windows

    def _release(self, taken: Iterable[str]) -> None:
        """Take away the newest entry of each window: entries are alike but for the moment."""
        for key in taken:
            client: Redis = self._storage.storage
            client.lpop(self._storage.prefixed_key(key))

    def _failed(self, error: RedisError) -> None:
        self._metrics.errors.inc()
        self._metrics.up.set(0)
        with self._lock:
            self._ask_again_at = self._clock() + self._pause_s
            told, self._away = self._away, True
        if not told:
            log.warning("frequency_backend_away", error=type(error).__name__, instead="the store")

    def _answered(self) -> None:
        with self._lock:
            back, self._away = self._away, False
        if back:
            self._metrics.up.set(1)
            log.info("frequency_backend_back")


def _key(key: tuple[str, str], rule: FrequencyRule) -> str:
    account_id, alert_type = (quote(part, safe="") for part in key)
    return f"merchant:{account_id}:alert:{alert_type}:{_WINDOWS[rule.name]}"
