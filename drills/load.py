"""A steady load: attacks that begin, go on and end, posted to Alertmanager as Prometheus does it.

What fires is posted again and again, and so is what has ended: whatever Alertmanager missed while it was away it gets
with the next post. While a fault lasts, what began in it does not end: what comes and goes within an outage
Alertmanager never tells anybody, and is a drill of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

REGIONS = ("AP", "EU")
_RESEND_S = 0.5
_AGAIN_S = 0.02
_FIRES_ON = timedelta(minutes=2)
"""What Alertmanager is told: nobody resends for so long and it has ended. Longer than a machine may stall."""


@dataclass
class Attack:
    """On one merchant, so that everything about it is told from all else. `regions`: one alert each.

    Times are of time.monotonic, but for `starts_at` and `ends_at`.
    """

    account: str
    began: float
    starts_at: datetime
    regions: Sequence[str] = REGIONS
    posted: bool = False  # Alertmanager was told that it fires
    ends_at: datetime | None = None
    ended: float | None = None
    told_end: bool = False

    def alerts(self) -> list[dict[str, Any]]:
        ends = self.ends_at or datetime.now(UTC) + _FIRES_ON
        return [self._alert(region, ends) for region in self.regions]

    def _alert(self, region: str, ends: datetime) -> dict[str, Any]:
        labels = {
            "alertname": "CardTestingSevere", "alert_type": "CARD_TESTING", "severity": "P2", "region": region,
            "account_id": self.account, "merchant_name": f"Merchant {self.account}",
        }  # fmt: skip
        annotations = {
            "summary": "Severe card testing", "block_rate": "0.35038363171355497", "threshold_block_rate": "0.3",
            "failed_auth_rate": "0.61", "transaction_count": "431",
        }  # fmt: skip
        return {
            "labels": labels,
            "annotations": annotations,
            "startsAt": self.starts_at.isoformat(timespec="milliseconds"),
            "endsAt": ends.isoformat(timespec="milliseconds"),
        }


@dataclass
class Load:
    """A new attack every `gap` s, each at least `length` s long, until `no_more`."""

    alertmanager: str
    gap: float
    length: float
    regions: Sequence[str] = REGIONS
    resend: float = _RESEND_S
    forget: float | None = None  # what has ended is posted for so many s; None: always
    attacks: list[Attack] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    hold_since: float | None = None  # what began then or later does not end
    going: bool = True
    posted_all: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()

    def finish(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def no_more(self) -> None:
        """What goes on ends in its time."""
        self.going = False

    def over(self) -> bool:
        """Alertmanager knows that every attack has ended."""
        return not self.going and all(attack.told_end for attack in self.attacks)

    def _run(self) -> None:
        with requests.Session() as session:
            due = time.monotonic()
            while not self._over.is_set():
                now = time.monotonic()
                if self.going and now >= due:
                    due = max(due + self.gap, now)
                    number = len(self.attacks)
                    self.attacks.append(Attack(f"acc_{number:04}", now, _in_milliseconds(), self.regions))
                self._end_some(now)
                taken = self._post(session)
                left = max(_AGAIN_S, due - time.monotonic()) if self.going else _RESEND_S
                self._over.wait(min(_RESEND_S, left) if taken else _AGAIN_S)

    def _end_some(self, now: float) -> None:
        for number, attack in enumerate(self.attacks):
            held = self.hold_since is not None and attack.began >= self.hold_since
            if attack.ends_at is None and not held and now - attack.began >= self.length * (1 + number % 3 / 4):
                attack.ends_at, attack.ended = _in_milliseconds(), now

    def _due(self) -> list[Attack]:
        """New ones and ends at once, all others each `resend` s; Prometheus forgets what has ended after a while."""
        now = time.monotonic()
        everybody = now - self.posted_all >= self.resend
        if everybody:
            self.posted_all = now
        old = now - self.forget if self.forget is not None else None
        return [
            attack
            for attack in self.attacks
            if not (attack.told_end and old is not None and attack.ended is not None and attack.ended < old)
            and (everybody or not attack.posted or (attack.ends_at is not None and not attack.told_end))
        ]

    def _post(self, session: requests.Session) -> bool:
        under_way = self._due()
        ended = [attack for attack in under_way if attack.ends_at is not None]
        body = [alert for attack in under_way for alert in attack.alerts()]
        if not body:
            return True
        try:
            answer = session.post(f"{self.alertmanager}/api/v2/alerts", json=body, timeout=10)
        except requests.RequestException:
            self.posted_all = 0.0
            return False
        if not answer.ok:
            self.refused.append(answer.text[:200])
            return True
        for attack in under_way:
            attack.posted = attack.posted or attack not in ended
        for attack in ended:
            attack.told_end = True
        return True


def _in_milliseconds() -> datetime:
    """As Alertmanager's API has it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
