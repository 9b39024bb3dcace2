"""The database of a drill, and what stands in it, read beside the processes that use it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from drills.programs import Program
from tests import servers
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification

# A killed server loses nothing that it has given to the system; only a power cut needs fsync.
_POSTGRESQL = "-c fsync=off -c full_page_writes=off -c max_connections=100"


def postgresql(stack: ExitStack) -> tuple[str, Program]:
    """URL of an empty database and the server, started."""
    folder, user = stack.enter_context(servers.service_folder("drill-postgresql"))
    data, port = folder / "data", servers.free_port()
    subprocess.run(
        [servers.program("initdb"), "-D", data, "-U", "sentinel", "-A", "trust", "-E", "UTF8", "--locale=C",
         "--no-sync"],
        check=True, capture_output=True, user=user, cwd=folder,
    )  # fmt: skip

    def ready() -> bool:
        done = subprocess.run(
            [servers.program("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-d", "postgres"],
            check=False, capture_output=True,
        )  # fmt: skip
        return done.returncode == 0

    options = f"-p {port} -k {folder} -h 127.0.0.1 {_POSTGRESQL}".split()
    server = Program("postgresql", [servers.program("postgres"), "-D", str(data), *options], folder, ready, user=user)
    stack.callback(server.stop, signal.SIGINT)
    server.start()
    return f"postgresql+psycopg://sentinel@127.0.0.1:{port}/postgres", server


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the SQLite file for itself; to the library it is no matter which thread of whom."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            entered.set()
            leave.wait()
            connection.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        servers.wait_for(entered.is_set, what="the lock on the database")
        yield
    finally:
        leave.set()
        holder.join()


@dataclass(frozen=True)
class Message:
    """One row of the outbox."""

    id: str
    account: str
    reason: str
    status: str
    maybe_repeated: int
    delay_s: float | None


@dataclass(frozen=True)
class Stored:
    """What the store holds. By account: `alerts`, the status of each; `firing`, instances that have not ended."""

    logged: int
    outcomes: Counter[str]
    alerts: dict[str, list[str]]
    firing: Counter[str]
    messages: list[Message]


class Store:
    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    def read(self) -> Stored:
        """In one transaction; raises what SQLAlchemy raises while the database is away."""
        log, n = alert_trigger_log.c, notification.c
        outcomes = sa.select(log.outcome, sa.func.count()).where(log.source == "alertmanager").group_by(log.outcome)
        firing = sa.select(alert_instance.c.account_id, sa.func.count()).where(alert_instance.c.status == "FIRING")
        alerts = sa.select(alert.c.account_id, alert_dynamic.c.status).join(
            alert_dynamic, alert_dynamic.c.alert_id == alert.c.id
        )
        told = sa.select(n.id, n.account_id, n.reason, n.status, n.maybe_repeated, n.created_at, n.sent_at)
        with self.engine.connect() as connection:
            found: Counter[str] = Counter(dict(connection.execute(outcomes).tuples().all()))
            by_account: dict[str, list[str]] = {}
            for account, status in connection.execute(alerts):
                by_account.setdefault(account, []).append(status)
            rows = [
                Message(id_, account, reason, status, repeated, _seconds(created, sent))
                for id_, account, reason, status, repeated, created, sent in connection.execute(told)
            ]
            still: Counter[str] = Counter(
                dict(connection.execute(firing.group_by(alert_instance.c.account_id)).tuples().all())
            )
        return Stored(found.total(), found, by_account, still, rows)

    def close(self) -> None:
        self.engine.dispose()


def _seconds(since: datetime, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if until is not None else None
