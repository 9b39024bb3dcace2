"""`make bench-stored`: the receiver and the queries over 1,000,000 triggers and 100,000 alerts, on PostgreSQL.

The rows are made by the server. Prints the time to take a payload of 5 alerts beside an empty store, then each query
of the pages and the API with its time, the CPU it takes of us and the server, and whether it reads an index or a whole
table; then a line for each goal, which are in CPU time, for others may load the machine; exit code 1 when one is short.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg
import sqlalchemy as sa
import structlog

from bench.stored_questions import GOALS, Ask, groups, subject
from tests import servers
from webhook.alert_type_settings import ConfigFile
from webhook.domain.ledger import IngestSettings
from webhook.domain.payload import parse_payload
from webhook.pipeline.ingest import ingest
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade
from webhook.storage.store import AlertStore

ACCOUNTS = 2000
MOST_GROWN = 1.5
DAYS = 90
LARGE = ("alert", "alert_dynamic", "alert_instance", "alert_trigger_log", "alert_comment", "notification", "audit_log")

# Few accounts have most alerts; the newest two in a hundred alerts are active, some of them expired.
_FILL = (
    """
CREATE TEMPORARY TABLE made AS
SELECT n, md5('alert' || n)::uuid AS id, 'acc_' || floor(power(random(), 2) * %(accounts)s)::int AS account_id,
  (ARRAY['CARD_TESTING','VELOCITY_ATTACK','ACCOUNT_TAKEOVER','CHARGEBACK_FRAUD','ANOMALY_DETECTION'])
    [1 + floor(power(random(), 2) * 5)::int] AS alert_type, 'P' || floor(sqrt(random()) * 4)::int AS severity,
  %(now)s::timestamptz - (n::float / %(alerts)s) * interval '1 day' * %(days)s AS at,
  CASE WHEN n <= %(alerts)s * 0.02 THEN 'ACTIVE' WHEN n %% 10 = 0 THEN 'DISMISSED' ELSE 'RESOLVED' END AS status
FROM generate_series(1, %(alerts)s) AS n""",
    """
INSERT INTO alert (id, account_id, merchant_name, alert_type, original_severity, title, summary,
  condition_fingerprint, metrics_data, metadata, created_at, updated_at)
SELECT id, account_id, 'Merchant ' || account_id, alert_type, severity, 'Block rate is high',
  'Card attempts at Merchant ' || account_id || ' rose to ' || n || ' within ten minutes, and ' || n %% 100 ||
  ' %% of them were blocked. The block rate is ' || n %% 7 || ' times what it was in the week before.', md5(n::text),
  '{"block_rate": 0.35}', '{"labels": {}, "thresholds": {"block_rate": 0.2}}', at, at FROM made""",
    """
INSERT INTO alert_dynamic (id, alert_id, condition_fingerprint, current_severity, status, occurrence_count,
  session_started_at, session_last_active, session_status, first_triggered_at, last_triggered_at, latest_metrics,
  escalation_history, resolved_at, resolved_by, version, updated_at)
SELECT md5('dynamic' || n)::uuid, id, md5(n::text), severity, status, 1 + n %% 60, at, at + interval '1 hour',
  CASE WHEN status <> 'ACTIVE' THEN 'RESOLVED' WHEN n %% 10 = 0 THEN 'EXPIRED' ELSE 'ACTIVE' END, at,
  at + interval '1 hour', '{"block_rate": 0.35}', '{"escalations": []}',
  CASE WHEN status <> 'ACTIVE' THEN at + interval '2 hours' END, CASE WHEN status <> 'ACTIVE' THEN 'system' END, 1,
  at + interval '2 hours' FROM made""",
    """
INSERT INTO alert_instance (fingerprint, starts_at, alert_id, account_id, alert_type, alert_name, severity, status,
  last_heard_at, last_passed_at, last_counted_at, resolved_at)
SELECT md5(account_id || n), at, id, account_id, alert_type, 'Rule', severity,
  CASE WHEN status = 'ACTIVE' THEN 'FIRING' ELSE 'RESOLVED' END, at, at, at,
  CASE WHEN status <> 'ACTIVE' THEN at + interval '2 hours' END FROM made""",
    """
INSERT INTO alert_trigger_log (id, alert_id, source, fingerprint, condition_fingerprint, alert_name, alert_type,
  account_id, status, severity, starts_at, metrics_data, labels, annotations, verdict, outcome, notify, created_at)
SELECT md5('trigger' || n || '.' || t.k)::uuid, CASE WHEN t.outcome <> 'suppressed' THEN id END, 'alertmanager',
  md5(account_id || n), md5(n::text), 'Rule', alert_type, account_id,
  CASE WHEN t.outcome = 'resolved' THEN 'RESOLVED' ELSE 'FIRING' END,
  severity, at, '{"block_rate": 0.35}',
  jsonb_build_object('alertname', 'Rule', 'account_id', account_id, 'merchant_name', 'Merchant ' || account_id),
  '{"summary": "Block rate is high", "block_rate": "0.35038363171355497"}', '{"passed": true, "conditions": []}',
  t.outcome, '', at + interval '5 minutes' * t.k
FROM made, LATERAL (SELECT k, CASE WHEN k = 0 THEN 'created' WHEN k = %(each)s - 1 THEN 'resolved'
  WHEN n %% 3 = 0 THEN 'suppressed' WHEN k %% 2 = 0 THEN 'duplicate' ELSE 'session_updated' END AS outcome
  FROM generate_series(0, %(each)s - 1) AS k) AS t""",
    """
INSERT INTO alert_comment (id, alert_id, comment_type, content, created_at)
SELECT md5('comment' || n || '.' || k)::uuid, id, 'TRIGGER_EVENT', 'fired', at + interval '5 minutes' * k
FROM made, generate_series(1, 3) AS k""",
    """
INSERT INTO notification (id, alert_id, account_id, alert_type, channel_type, status, reason, priority, content,
  metadata, created_at, not_before, failed_at, retry_count)
SELECT md5('notification' || n)::uuid, id, account_id, alert_type, 'slack',
  CASE WHEN n %% 100 = 0 THEN 'FAILED' ELSE 'SENT' END, 'first', 1, '{}', '{}', at, at,
  CASE WHEN n %% 100 = 0 THEN at END, 0 FROM made""",
    """
INSERT INTO audit_log (id, actor, authenticated_as, action, account_id, alert_id, details, created_at)
SELECT md5('audit' || n)::uuid, 'person ' || n %% 20, 'sk_1a2b3c4d', 'alert_dismissed', account_id, id, '{}', at
FROM made WHERE n %% 2 = 0""",
)


def fill(url: str, *, triggers: int, alerts: int, now: datetime) -> None:
    """Rows of `alerts` alerts over 90 days and as many triggers of each, the same each time; statistics are fresh."""
    values = {"alerts": alerts, "each": triggers // alerts, "accounts": ACCOUNTS, "days": DAYS, "now": now}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        texts = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_alert_texts'").fetchone()
        connection.execute("DROP INDEX IF EXISTS ix_alert_texts")  # row by row, it takes most of the time
        for statement in _FILL:
            connection.execute(statement, values)
        if texts is not None:
            connection.execute(texts[0].encode())
        connection.execute("VACUUM ANALYZE")


def plans(connection: sa.Connection, ask: Ask) -> list[str]:
    """The lines of PostgreSQL's plans for all that is asked."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", note)
    ask(connection)
    sa.event.remove(connection, "before_cursor_execute", note)
    return [
        str(row[0])
        for statement, parameters in statements
        if not statement.startswith("SET")
        for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    ]


def whole_tables(connection: sa.Connection, ask: Ask) -> list[str]:
    """The large tables that PostgreSQL reads from end to end to answer, in its own estimate."""
    found = (re.search(r"Seq Scan on (\w+)", line) for line in plans(connection, ask))
    return sorted({match[1] for match in found if match and match[1] in LARGE})


def delivery(number: int, now: datetime) -> dict[str, object]:
    """A payload of 5 alerts over the accounts."""
    accounts = [f"acc_{(number * 5 + k) * 7 % ACCOUNTS}" for k in range(5)]
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "Rule", "alert_type": "CARD_TESTING", "severity": "P3", "account_id": account},
            "annotations": {"summary": "Block rate is high", "block_rate": "0.35038363171355497"},
            "startsAt": now.isoformat(),
            "fingerprint": f"bench-{account}",
        }
        for account in accounts
    ]
    return {"alerts": alerts}


def ingest_times(database: Database, payloads: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of the clock and of CPU for one payload: of new alerts, and of the same again."""
    settings, store, now = IngestSettings(types=ConfigFile().types()), AlertStore(database), datetime.now(UTC)
    times = {}
    for kind in ("new", "repeated"):
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # as a server does by itself
            server = connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0  # the one of all, in a pool of one
        clock, busy = [], []
        for number in range(payloads):
            received = parse_payload(delivery(number, now))
            at, used = time.perf_counter(), _busy(server)
            ingest(store, received, settings, datetime.now(UTC))
            clock.append(1000 * (time.perf_counter() - at))
            busy.append(_busy(server) - used)
        times[kind] = (statistics.median(clock), statistics.median(busy))
    return times


def _store(server: str, name: str) -> Database:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = f"{server}/{name}".replace("postgresql://", "postgresql+psycopg://")
    upgrade(url)
    return Database(url, pool_size=1)


def _busy(server: int) -> float:
    """Milliseconds of CPU that the server's process for this connection and our own have used."""
    spent = int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) / 1e6
    return spent + 1000 * time.process_time()


def _times(connection: sa.Connection, ask: Ask, times: int = 9) -> tuple[float, float]:
    """Median milliseconds of the clock and of CPU; more than five, for then PostgreSQL may plan once for all."""
    server = connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0
    clock, busy = [], []
    for _ in range(times):
        at, used = time.perf_counter(), _busy(server)
        ask(connection)
        clock.append(1000 * (time.perf_counter() - at))
        busy.append(_busy(server) - used)
    return statistics.median(clock), statistics.median(busy)


@click.command()
@click.option("--triggers", default=1_000_000, show_default=True)
@click.option("--alerts", default=100_000, show_default=True)
@click.option("--payloads", default=200, show_default=True, help="Of 5 alerts, new and then repeated.")
def main(*, triggers: int, alerts: int, payloads: int) -> None:
    """Measure a full store beside an empty one; exit code 1 when a goal is short."""
    now = datetime.now(UTC)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with servers.postgresql() as server:
        empty, full = _store(server, "empty"), _store(server, "filled")
        taken: dict[str, dict[str, tuple[float, float]]] = {}
        started = time.perf_counter()
        fill(f"{server}/filled", triggers=triggers, alerts=alerts, now=now)
        print(
            f"{triggers:,} triggers and {alerts:,} alerts made in {time.perf_counter() - started:.0f} s\n", flush=True
        )
        for name, database in (("empty store", empty), ("full store", full)):
            taken[name] = ingest_times(database, payloads)
            words = ", ".join(
                f"{kind} {clock:.1f} ms ({busy:.1f} of CPU)" for kind, (clock, busy) in taken[name].items()
            )
            print(f"  5 alerts a payload, {name}: {words}")
        grown = max(taken["full store"][kind][1] / taken["empty store"][kind][1] for kind in ("new", "repeated"))
        reached = grown <= MOST_GROWN
        verdict = "ok" if reached else "short"
        print(f"goal ingest: {grown:.2f} x an empty store's CPU (wanted ≤ {MOST_GROWN} x) {verdict}\n")
        with full.read() as connection:
            reached &= show_queries(connection, now)
        for database in (empty, full):
            database.close()
    sys.exit(0 if reached else 1)


def show_queries(connection: sa.Connection, now: datetime) -> bool:
    """Print times and plan of each query, and how each group reaches its goal; return whether all do."""
    connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")  # whose CPU could not be told
    of, reached = subject(connection, now), True
    for group, questions in groups(of):
        slowest = ("", 0.0)
        for name, ask in questions.items():
            read = whole_tables(connection, ask)
            clock, busy = _times(connection, ask)
            slowest = max(slowest, (name, busy), key=lambda timed: timed[1])
            how = f"reads all of {', '.join(read)}" if read else "index"
            print(f"  {group:<10} {name:<36} {clock:7.1f} ms, {busy:7.1f} of CPU  {how}", flush=True)
        goal = GOALS[group]
        reached &= slowest[1] <= goal
        verdict = "ok" if slowest[1] <= goal else "short"
        print(f"goal {group}: {slowest[1]:.0f} ms of CPU for {slowest[0]} (wanted ≤ {goal} ms) {verdict}\n")
    return reached


if __name__ == "__main__":
    main()
