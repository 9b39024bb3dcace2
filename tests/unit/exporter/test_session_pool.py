from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic

import pytest
from servers import wait_for

from exporter.collectors.base import Collection
from exporter.collectors.session_pool import PoolKey, SessionPool, SessionPools
from exporter.collectors.sql_session import Answer, Session, Statement, Target
from exporter.errors import QueryRefused, TimedOut, Unreachable


class FakeSession:
    def __init__(self, server: Server, collection: Collection) -> None:
        self.server = server
        self.opened = collection.clock()
        self.spent = False
        self.closed = False
        self.generation = server.generation
        self.began = 0

    def begin(self, _: Collection) -> None:
        if self.generation != self.server.generation:
            self.server.tried_in_vain += 1
            raise Unreachable("gone away")
        self.began += 1

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        raise NotImplementedError

    def end(self) -> None: ...

    def cancel(self) -> None:
        self.spent = True

    def close(self) -> None:
        self.closed = True


class Server:
    """Knows every session ever opened; a new generation has forgotten the old ones."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.generation = 0
        self.tried_in_vain = 0

    def connect(self, _: Target, collection: Collection) -> Session:
        self.sessions.append(FakeSession(self, collection))
        return self.sessions[-1]

    @property
    def open(self) -> int:
        return sum(not session.closed for session in self.sessions)


def key(size: int = 2, max_lifetime: float = 100) -> PoolKey:
    return PoolKey(Target("postgresql", "d", "db.example", password="hidden"), size, max_lifetime)


def at(now: float, timeout: float = 10) -> Collection:
    return Collection(now=datetime.now(UTC), deadline=now + timeout, clock=lambda: now)


def soon(timeout: float) -> Collection:
    return Collection(now=datetime.now(UTC), deadline=monotonic() + timeout)


def use(pool: SessionPool, collection: Collection) -> None:
    with pool.session(collection, doubtful=False):
        pass


def test_a_session_is_kept_until_its_lifetime_ends() -> None:
    server = Server()
    pool = SessionPool(key(), server.connect)
    for now in (0, 50, 99):
        use(pool, at(now))
    assert len(server.sessions) == 1
    assert server.sessions[0].began == 3
    use(pool, at(100))
    assert len(server.sessions) == 2
    assert server.open == 1


def test_a_free_session_that_is_too_old_is_closed_though_nobody_takes_it() -> None:
    server = Server()
    pool = SessionPool(key(size=2), server.connect)
    first, second = ExitStack(), ExitStack()
    first.enter_context(pool.session(at(0), doubtful=False))
    second.enter_context(pool.session(at(60), doubtful=False))
    first.close()
    second.close()
    use(pool, at(99))
    assert server.open == 2
    use(pool, at(110))
    assert [session.closed for session in server.sessions] == [True, False]


def test_a_server_that_came_back_is_asked_anew_without_an_error() -> None:
    server = Server()
    pool = SessionPool(key(size=3), server.connect)
    with pool.session(at(0), doubtful=False), pool.session(at(0), doubtful=False):
        use(pool, at(0))
    assert server.open == 3
    server.generation += 1
    use(pool, at(1))
    assert server.open == 1
    assert len(server.sessions) == 4
    assert server.tried_in_vain == 1, "what the others would say is known"


@pytest.mark.parametrize("error", [QueryRefused("no"), KeyboardInterrupt()])
def test_a_session_in_which_something_failed_is_not_used_again(error: BaseException) -> None:
    server = Server()
    pool = SessionPool(key(size=1), server.connect)
    with pytest.raises(type(error)), pool.session(at(0), doubtful=False):
        raise error
    assert server.open == 0
    with pool.session(at(0), doubtful=False) as session:
        session.cancel()
    assert server.open == 0
    use(pool, at(0))


def test_a_place_is_free_again_when_connecting_failed() -> None:
    server = Server()

    def refuse(target: Target, collection: Collection) -> Session:
        raise Unreachable("no")

    pool = SessionPool(key(size=1), refuse)
    for _ in range(3):
        with pytest.raises(Unreachable):
            use(pool, at(0))
    assert server.open == 0


def test_who_finds_no_session_free_waits_no_longer_than_its_own_timeout_and_says_why() -> None:
    pool = SessionPool(key(size=1), Server().connect)
    with pool.session(soon(60), doubtful=False), pytest.raises(TimedOut, match=r"db\.example .* raise pool\.size"):
        use(pool, soon(0.1))
    use(pool, soon(60))


def test_waiting_ends_when_the_run_is_cancelled() -> None:
    pool = SessionPool(key(size=1), Server().connect)
    waiting = soon(3600)
    failed = threading.Event()

    def wait() -> None:
        with pytest.raises(TimedOut):
            use(pool, waiting)
        failed.set()

    with pool.session(soon(60), doubtful=False):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.cancelled.set()
        assert failed.wait(60)
    thread.join()


def test_sources_whose_queries_timed_out_cannot_use_the_pool_up() -> None:
    server = Server()
    pool = SessionPool(key(size=4), server.connect)
    release = threading.Event()

    def hang() -> None:
        with pool.session(soon(3600), doubtful=True):
            release.wait()

    threads = [threading.Thread(target=hang) for _ in range(10)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(server.sessions) == 2, what="half of the pool taken")
    for _ in range(20):
        use(pool, soon(60))
    assert len(server.sessions) == 3
    release.set()
    for thread in threads:
        thread.join()


def test_a_pool_is_shared_by_equal_keys_and_closed_with_its_last_holder() -> None:
    server, pools = Server(), SessionPools()
    first, second = object(), object()
    pool = pools.hold(key(), server.connect, first)
    assert pools.hold(key(), server.connect, second) is pool
    assert pools.hold(key(), server.connect, second) is pool
    assert pools.hold(key(size=3), server.connect, second) is not pool
    use(pool, at(0))
    pools.let_go(key(), second)
    assert server.open == 1
    with pool.session(at(1), doubtful=False):
        pools.let_go(key(), first)
        assert server.open == 1
    assert server.open == 0
    assert pools.hold(key(), server.connect, first) is not pool
    pools.let_go(key(size=9), first)


def test_a_key_shows_no_password() -> None:
    assert "hidden" not in repr(key())
