"""Workers are killed while they send to providers that fail a third of their calls: nothing is lost, little doubled.

Of what fails some was taken all the same, with the answer lost. Half of the messages go where a key tells repeats.

Time is advanced rather than waited for: what waits to be tried again is due at once, and the leases of a worker that
is known to be dead end. Every message goes to an address of its own, by which the provider tells them apart.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from notes import Shop
from servers import free_port, wait_for

from webhook.domain.target import target_of
from webhook.storage.delivery_tables import pace
from webhook.storage.tables import alert, alert_dynamic, notification

PARALLEL = 4
CHANNELS = ("slack", "webhook")
"""An incoming webhook of Slack's, which knows no key, and our own, which has one."""

REASONS = ("first", "escalated")
KEY, SECRET = "Idempotency-Key", "s3cr3t-0123456789abcdef0123456789"


@dataclass
class Provider:
    """Fails a third of its calls, before or after it took the message, and calls `at` by number of call.

    No place without a key is left in doubt more than once, so that what is doubled there is known.
    """

    seed: int
    at: dict[int, Any] = field(default_factory=dict)
    calls: int = 0
    taken: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    doubted: set[str] = field(default_factory=set)
    lost_answers: int = 0
    never: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def serving(self) -> Iterator[str]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                provider.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.request_queue_size = True, 64
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self.never.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["Content-Length"]))
        with self.lock:
            self.calls += 1
            number, chance = self.calls, random.Random(self.seed * 1_000_003 + self.calls).random()
            how = self._how(request, chance)
            if how in ("taken", "taken and lost"):
                self._take(request)
                self.lost_answers += how == "taken and lost"
            kill = self.at.pop(number, None)
        if kill is not None:
            kill()  # with the message taken, or refused, and no answer given yet
        if how == "taken":
            self._respond(request, 200)
        elif how == "refused":
            self._respond(request, *random.Random(number).choice([(503, {}), (429, {"Retry-After": "30"})]))
        elif chance < 0.2:
            self._respond(request, 502)
        else:
            if chance < 0.2025:
                self.never.wait()  # until the client has no more patience
            request.close_connection = True
            request.connection.close()

    def _how(self, request: BaseHTTPRequestHandler, chance: float) -> str:
        if chance >= 1 / 3:
            return "taken"
        if chance >= 0.24 or (KEY not in request.headers and request.path in self.doubted):
            return "refused"
        self.doubted.add(request.path)
        return "taken and lost" if chance < 0.05 or chance >= 0.21 else "lost"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        key = request.headers.get(KEY)
        if key is None or key not in self.keys:
            self.taken.append(request.path)
        if key is not None:
            self.keys.add(key)

    def _respond(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None) -> None:
        try:
            request.send_response(status)
            for name, value in {"Content-Length": "0", **(headers or {})}.items():
                request.send_header(name, value)
            request.end_headers()
        except OSError:
            pass  # the client was killed


class Crew:
    """Worker processes; a killed one is replaced."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self._folder, self._random = folder, random.Random(seed)
        nobody = f"http://127.0.0.1:{free_port()}"
        settings = folder / "settings.yaml"
        settings.write_text(json.dumps({"channels": {name: {"timeout": 8, "parallel": PARALLEL} for name in CHANNELS}}))
        own = {
            "DATABASE_URL": url, "CONFIG_FILE": str(settings), "INSECURE_WEBHOOKS": "true",
            "PROMETHEUS_URL": nobody, "ALERTMANAGER_URL": nobody, "WORKER_SWEEP_INTERVAL": "1h",
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
        self._environment = kept | {f"SENTINEL_{name}": value for name, value in own.items()}
        self._lock = threading.Lock()
        self.alive, self.dead = list[subprocess.Popen[bytes]](), list[subprocess.Popen[bytes]]()

    def start(self) -> None:
        with (self._folder / f"log-{len(self.alive) + len(self.dead)}").open("wb") as log:
            command = [sys.executable, "-m", "webhook", "worker"]
            self.alive.append(subprocess.Popen(command, env=self._environment, stdout=log, stderr=log))

    def kill_one(self) -> None:
        with self._lock:  # calls come in threads
            self._kill_one()

    def _kill_one(self) -> None:
        victim = self.alive.pop(self._random.randrange(len(self.alive)))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.dead.append(victim)
        self.start()

    def stop(self) -> None:
        for worker in self.alive:
            worker.kill()
        for worker in self.alive:
            worker.wait()


def fill(shop: Shop, url: str, alerts: int) -> dict[str, tuple[str, int]]:
    """Two messages for each alert, one after the other; return id → path and position."""
    now, moving, fixed, rows = datetime.now(UTC), [], [], []
    example = shop.add_alert(started=now)
    with shop.database.read() as connection:
        own = dict(connection.execute(sa.select(alert).where(alert.c.id == example)).mappings().one())
        state = sa.select(alert_dynamic).where(alert_dynamic.c.alert_id == example)
        own_state = dict(connection.execute(state).mappings().one())
    template = shop.row(shop.add_notification(example, at=now))
    with shop.database.write() as connection:
        connection.execute(sa.delete(notification))
    places = {}
    for number in range(alerts):
        alert_id, account = str(uuid.uuid4()), f"acc_{number}"
        both = {"condition_fingerprint": uuid.uuid4().hex}
        fixed.append(own | both | {"id": alert_id, "account_id": account})
        moving.append(own_state | both | {"id": str(uuid.uuid4()), "alert_id": alert_id})
        for position, reason in enumerate(REASONS):
            row_id, path = str(uuid.uuid4()), f"/{number}/{position}"
            channel, settings = CHANNELS[number % 2], {"webhook_url": f"{url}{path}", "secret": SECRET}
            content = template["content"] | {"channel_settings": settings, "reason": reason, "metrics": {}}  # no chart
            times = {"created_at": now + timedelta(milliseconds=position), "not_before": now}
            ids = {"id": row_id, "alert_id": alert_id, "account_id": account, "target": target_of(channel, settings)}
            rows.append(template | times | ids | {"channel_type": channel, "content": content, "reason": reason})
            places[row_id] = (path, position)
    with shop.database.write() as connection:
        for table, values in ((alert, fixed), (alert_dynamic, moving), (notification, rows)):
            connection.execute(sa.insert(table), values)
    return places


def advance(shop: Shop, crew: Crew) -> bool:
    """Let the time pass that something waits for; whether all was sent."""
    n, now = notification.c, datetime.now(UTC)
    dead = [n.lease_owner.like(f"%-{worker.pid}-%") for worker in crew.dead]
    open_ones = n.status.in_(["PENDING", "SENDING"])
    with shop.database.write() as connection:
        later = sa.update(notification).where(n.status == "PENDING", n.not_before > now)
        connection.execute(later.values(not_before=now))
        if dead:
            held = sa.update(notification).where(n.status == "SENDING", n.lease_until > now, sa.or_(*dead))
            connection.execute(held.values(lease_until=now - timedelta(seconds=1)))
        waiting = sa.select(pace.c.target).where(pace.c.free_at > now).with_for_update(skip_locked=True)
        connection.execute(sa.delete(pace).where(pace.c.target.in_(waiting)))  # waits for no worker, in a ring or not
        return connection.scalar(sa.select(sa.func.count()).where(open_ones)) == 0


@pytest.mark.parametrize(
    ("store_url", "alerts", "kills"), [("postgresql", 500, 6), ("sqlite", 25, 2)], indirect=["store_url"]
)
def test_killed_workers_lose_nothing(store_url: str, alerts: int, kills: int, tmp_path: Path) -> None:
    seed, messages = 2025, alerts * len(REASONS)
    provider, crew, shop = Provider(seed), Crew(tmp_path, store_url, seed), Shop(store_url)
    points = random.Random(seed).sample(range(messages // 20, messages * 5 // 4), kills)
    provider.at = dict.fromkeys(points, crew.kill_one)
    with provider.serving() as url, closing(shop):
        places = fill(shop, url, alerts)
        for _ in range(2):
            crew.start()
        try:
            wait_for(lambda: advance(shop, crew), what="all messages", timeout=400, step=0.5)
        finally:
            crew.stop()
        rows = {row["id"]: row for row in shop.rows(notification)}

    assert len(crew.dead) == kills
    assert Counter(row["status"] for row in rows.values()) == {"SENT": messages}
    taken = Counter(provider.taken)
    assert taken.keys() == {path for path, _ in places.values()}, "none is missing"
    for row_id, (path, _) in places.items():
        most = 1 if rows[row_id]["channel_type"] == "webhook" else 1 + rows[row_id]["maybe_repeated"]
        assert taken[path] <= most, "what came twice is known to"
    assert provider.lost_answers
    assert taken.total() - messages <= kills * PARALLEL * len(CHANNELS) + provider.lost_answers
    first = {path: position for position, path in reversed(list(enumerate(provider.taken)))}
    assert all(first[f"/{number}/0"] < first[f"/{number}/1"] for number in range(alerts)), "in order within an alert"
