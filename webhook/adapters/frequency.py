"""Frequency limits in Redis, for any number of receivers: a moving window by the `limits` library.

Keys follow the owner's documents: `freq_ctrl:merchant:<id>:alert:<type>:hour`, `…:day`, `…:last`. Places are taken
before the transaction commits and given back when it does not. While Redis is away the store decides alone; it is
asked again after a pause.

What a delivery locks is locked while it waits for Redis. So all its claims go in one transaction of Redis, with one
answer; further ones only where it has several for one account and type. None begins later than `TIMEOUT_S` after the
first, and an answer is waited for no longer than that.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from urllib.parse import quote

import structlog
from limits.storage import RedisStorage
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as TookTooLong
from redis.retry import Retry

from webhook.domain.ledger import Claim
from webhook.domain.throttle import FrequencyRule

TIMEOUT_S = 0.25
"""For one answer, and for beginning to ask: beyond it the store decides."""

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


@dataclass(slots=True)
class _Asked:
    """A claim with the keys that it needs a place in: all of them, where the limits hold for it."""

    claim: Claim
    rules: list[tuple[str, FrequencyRule]] = field(init=False)
    taken: list[str] = field(default_factory=list)
    granted: bool = False

    def __post_init__(self) -> None:
        self.rules = [(_key(self.claim.key, rule), rule) for rule in self.claim.policy.limits()]


def _rounds(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """Each account and type once a round, in order: what one claim is refused is free for the next."""
    by_key: dict[tuple[str, str], list[_Asked]] = {}
    for one in asked:
        by_key.setdefault(one.claim.key, []).append(one)
    for part in zip_longest(*by_key.values()):
        yield [one for one in part if one is not None]


class RedisPlaces:
    """Places within the limits, shared by all processes. Calls raise nothing; see `webhook.ports.FrequencyPlaces`."""

    def __init__(
        self,
        url: str,
        metrics: FrequencyMetrics,
        *,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
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
        began = self._clock()
        if began < self._ask_again_at:
            return None
        asked = [_Asked(claim) for claim in claims]
        try:
            for number, part in enumerate(_rounds(asked)):
                if number and self._clock() - began > TIMEOUT_S:
                    raise TookTooLong("asking Redis takes too long")
                self._acquire(part)
        except RedisError as error:
            self._failed(error)
            return None
        self._answered()
        taken = list(chain.from_iterable(one.taken for one in asked))
        return Taken([one.granted for one in asked], lambda: self._give_back(taken))

    def _acquire(self, asked: Sequence[_Asked]) -> None:
        """All keys of these claims at once; what a refused claim has got is released."""
        acquire, now = self._storage.lua_acquire_moving_window, time.time()
        with self._client.pipeline() as pipe:
            for one in asked:
                for key, rule in one.rules:
                    expiry = math.ceil(rule.window.total_seconds())
                    acquire([self._storage.prefixed_key(key)], [now, rule.maximum, expiry, 1], client=pipe)
            answers = iter(pipe.execute() if len(pipe) else [])
        refused: list[str] = []
        for one in asked:
            one.taken = [key for key, _ in one.rules if next(answers)]
            one.granted = not one.claim.limited or len(one.taken) == len(one.rules)
            if not one.granted:
                refused += one.taken
                one.taken = []
        self._release(refused)

    @property
    def _client(self) -> Redis:
        client: Redis = self._storage.storage
        return client

    def _give_back(self, taken: Sequence[str]) -> None:
        try:
            self._release(taken)
        except RedisError as error:
            self._failed(error)  # they become free with their windows

    def _release(self, taken: Sequence[str]) -> None:
        """Take away the newest entry of each window: entries are alike but for the moment."""
        if not taken:
            return
        with self._client.pipeline() as pipe:
            for key in taken:
                pipe.lpop(self._storage.prefixed_key(key))
            pipe.execute()

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
