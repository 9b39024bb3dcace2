"""Sessions of one database server, shared by every source that asks it.

A pool never has more than `size` sessions, so that hundreds of sources do not mean hundreds of connections; a source
waits for a free one within its own timeout. A query that hangs holds its session until its source's timeout, when it
is cancelled. So that sources whose queries hang time and again cannot use the pool up, those whose last query timed
out share half of the sessions.

Kept here rather than in SQLAlchemy's QueuePool, whose wait has one timeout for all and cannot be cancelled, and which
opens a connection without knowing how long its caller may wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exporter.collectors.base import Collection
from exporter.collectors.sql_session import Session, Target
from exporter.errors import CollectError, TimedOut, Unreachable

_LOOK_UP_EVERY = 0.1  # seconds between two looks at whether a waiting source was cancelled
Connect = Callable[[Target, Collection], Session]


@dataclass(frozen=True, slots=True)
class PoolKey:
    """Sources with equal keys share a pool. `max_lifetime` is in seconds."""

    target: Target
    size: int
    max_lifetime: float


class SessionPool:
    """At most `size` sessions. Those that are free are kept open, and the one used last is used first."""

    def __init__(self, key: PoolKey, connect: Connect) -> None:
        self._key = key
        self._connect = connect
        self._places = threading.Semaphore(key.size)
        self._doubtful_places = threading.Semaphore(max(1, key.size // 2))
        self._free: deque[Session] = deque()
        self._closed = False

    @contextlib.contextmanager
    def session(self, collection: Collection, *, doubtful: bool) -> Iterator[Session]:
        """A session that has begun. It is kept unless it is spent or the block fails."""
        with contextlib.ExitStack() as places:
            if doubtful:
                places.enter_context(self._place(self._doubtful_places, collection))
            places.enter_context(self._place(self._places, collection))
            session = self._kept(collection) or self._new(collection)
            try:
                yield session
                if not session.spent:
                    session.end()
            except BaseException:
                session.close()
                raise
            self._put_back(session, collection.clock())

    def close(self) -> None:
        """Close what is free now, and the rest as it comes back."""
        self._closed = True
        self._close_free()

    def _kept(self, collection: Collection) -> Session | None:
        """A kept session that still works. When one does not, the server has gone away, and with it all of them."""
        while self._free:
            try:
                session = self._free.pop()
            except IndexError:  # another source was faster
                return None
            if self._too_old(session, collection.clock()):
                session.close()
                continue
            try:
                session.begin(collection)
            except Unreachable:
                session.close()
                self._close_free()
            except CollectError:
                session.close()
                raise
            else:
                return session
        return None

    def _new(self, collection: Collection) -> Session:
        session = self._connect(self._key.target, collection)
        try:
            session.begin(collection)
        except BaseException:
            session.close()
            raise
        return session

    def _put_back(self, session: Session, now: float) -> None:
        if session.spent or self._closed:
            session.close()
        else:
            self._free.append(session)
        for kept in list(self._free):
            if self._too_old(kept, now):
                with contextlib.suppress(ValueError):  # taken meanwhile
                    self._free.remove(kept)
                    kept.close()
        if self._closed:
            self._close_free()

    def _too_old(self, session: Session, now: float) -> bool:
        return now >= session.opened + self._key.max_lifetime

    def _close_free(self) -> None:
        while self._free:
            with contextlib.suppress(IndexError):
                self._free.pop().close()

    @contextlib.contextmanager
    def _place(self, places: threading.Semaphore, collection: Collection) -> Iterator[None]:
        while not places.acquire(timeout=min(_LOOK_UP_EVERY, self._remaining(collection))):
            continue
        try:
            yield
        finally:
            places.release()

    def _remaining(self, collection: Collection) -> float:
        try:
            return collection.remaining()
        except TimedOut:
            raise TimedOut(
                f"no connection to {self._key.target.place} was free within the source's timeout: other sources' "
                f"queries hold all {self._key.size}; make them faster, or raise pool.size of all of them"
            ) from None


class SessionPools:
    """The pools in use, each closed when its last source lets go of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[PoolKey, tuple[SessionPool, set[object]]] = {}

    def hold(self, key: PoolKey, connect: Connect, holder: object) -> SessionPool:
        """The key's pool, kept until `holder` lets go of it."""
        with self._lock:
            pool, holders = self._pools.setdefault(key, (SessionPool(key, connect), set()))
            holders.add(holder)
            return pool

    def let_go(self, key: PoolKey, holder: object) -> None:
        with self._lock:
            pool, holders = self._pools.get(key, (None, set()))
            holders.discard(holder)
            if holders or pool is None:
                return
            del self._pools[key]
        pool.close()
