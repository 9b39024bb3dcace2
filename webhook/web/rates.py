"""How often somebody may ask, and how often they may guess: counted in Redis where one is configured, else by process.

Who asks is counted once let in: before, nobody knows whose key a request carries.
A Redis that is away is replaced by this process' own memory until it is back.
"""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond, parse_many
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter
from werkzeug.exceptions import TooManyRequests

from webhook.domain.access import Principal

ATTEMPTS = 10
ATTEMPT_WINDOW = timedelta(minutes=5)
READS = ("GET", "HEAD", "OPTIONS")
REDIS_TIMEOUT_S = 0.5
REDIS_REST_S = 15

_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]+|\[(?P<v6>[^\]]+)\](:[0-9]+)?", re.ASCII)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RateSettings:
    """Limits as `limits` writes them, e.g. `600/minute`; empty for none. `redis_url` is shared by processes."""

    address: str = "1200/minute"
    read: str = "600/minute"
    write: str = "120/minute"
    redis_url: str | None = None


class Rates:
    """Raises TooManyRequests, with Retry-After, for who asks too often."""

    def __init__(self, settings: RateSettings) -> None:
        self._address, self._read, self._write = (
            parse_many(text) if text else [] for text in (settings.address, settings.read, settings.write)
        )
        self._memory: Storage = MemoryStorage()
        self._redis = _redis(settings.redis_url) if settings.redis_url else None
        self._redis_back = 0.0
        self._guess = RateLimitItemPerSecond(ATTEMPTS, int(ATTEMPT_WINDOW.total_seconds()), namespace="guess")

    def take_address(self, address: str) -> None:
        self._take(self._address, "address", near(address))

    def take(self, principal: Principal, method: str) -> None:
        reads = method in READS
        self._take(self._read if reads else self._write, "read" if reads else "write", caller(principal))

    def guessed(self, address: str) -> None:
        """A wrong credential came from this address; TooManyRequests after ATTEMPTS in ATTEMPT_WINDOW.

        A right one in between changes nothing: who holds a key could guess for ever.
        """
        self._hit(self._guess, ("login", near(address)), MovingWindowRateLimiter, "Too many failed attempts.")

    def _take(self, items: list[RateLimitItem], *identifiers: str) -> None:
        for item in items:
            self._hit(item, identifiers, FixedWindowRateLimiter, "Too many requests.")

    def _hit(
        self, item: RateLimitItem, identifiers: tuple[str, ...], strategy: type[RateLimiter], complaint: str
    ) -> None:
        try:
            wait = _wait(strategy(self._storage()), item, identifiers)
        except StorageError as error:
            self._rest(error)
            wait = _wait(strategy(self._memory), item, identifiers)
        if wait is not None:
            raise TooManyRequests(f"{complaint} Try again in {_words(wait)}.", retry_after=wait)

    def _storage(self) -> Storage:
        return self._redis if self._redis is not None and time.monotonic() >= self._redis_back else self._memory

    def _rest(self, error: StorageError) -> None:
        """Ask Redis again after a while, not with every request."""
        self._redis_back = time.monotonic() + REDIS_REST_S
        log.warning("rate_limits_by_process", reason=type(error.storage_error).__name__)


def caller(principal: Principal) -> str:
    """Who is counted: a key as itself wherever it is used; the admin token, which many share, by address."""
    who = principal.credential
    return who if who.startswith(("api_key/", "oidc/")) else f"{who}/{near(principal.address)}"


def near(address: str) -> str:
    """The address; of IPv6 the network of 64 bits that one customer has, who could call from each of its addresses.

    Some proxies add the caller's port, another one for each connection.
    """
    with_port = _WITH_PORT.fullmatch(address)
    try:
        known = ipaddress.ip_address(with_port["v4"] or with_port["v6"] if with_port else address)
    except ValueError:
        return address
    if known.version == 4:  # noqa: PLR2004 - the protocol's name
        return str(known)
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, 64), strict=False).network_address)


def _redis(url: str) -> Storage:
    return RedisStorage(
        url, wrap_exceptions=True, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )


def _wait(limiter: RateLimiter, item: RateLimitItem, identifiers: tuple[str, ...]) -> int | None:
    """Seconds until the next try; None when this one is taken."""
    if limiter.hit(item, *identifiers):
        return None
    return max(1, ceil(limiter.get_window_stats(item, *identifiers).reset_time - time.time()))


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds <= 90 else f"{ceil(seconds / 60)} min"  # noqa: PLR2004 - a minute and a half
