"""Requests that meet are stored in one transaction; what goes wrong with one of them harms no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from servers import wait_for

from webhook.domain.ledger import Changes, IngestSettings, Known, Received
from webhook.domain.payload import Rejected, parse_payload
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.together import Together
from webhook.ports import StoreConflict, StoreUnavailable

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Slow:
    """A store that keeps its first caller until `go` is set, and refuses what `bad` says with the error it gives."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()
        self.calls: list[list[str]] = []
        self.bad: Callable[[list[str]], Exception | None] = lambda _: None

    def ingest(
        self,
        delivery: Sequence[Received],
        _settings: object,
        _now: datetime,
        decide: Callable[[Known], Changes],
        _request: object,
    ) -> Changes:
        accounts = [_account(received.item) for received in delivery]
        self.calls.append(accounts)
        if len(self.calls) == 1:
            self.entered.set()
            self.go.wait()
        if error := self.bad(accounts):
            raise error
        return decide(Known())


def _account(item: object) -> str:
    return str(getattr(item, "account_id", "rejected"))


def alerts(*accounts: str) -> list[object]:
    return [
        {"labels": {"account_id": account, "alertname": "Rule"}, "startsAt": "2026-01-05T11:00:00Z"}
        for account in accounts
    ]


class Desk:
    """Requests in threads, which meet while the store is busy with the first one."""

    def __init__(self) -> None:
        self.store = Slow()
        self.registry = CollectorRegistry()
        self.together = Together(self.store, IngestSettings(), IngestMetrics(self.registry))

    def meet(self, *requests: list[object]) -> list[Future[Changes]]:
        """The answers to `requests`, which all came while a first one, of account `first`, was being stored."""
        with ThreadPoolExecutor(len(requests) + 1) as pool:
            first = pool.submit(self._ingest, alerts("first"))
            self.store.entered.wait()
            answers = []
            try:
                for number, request in enumerate(requests, 1):
                    answers.append(pool.submit(self._ingest, request))
                    wait_for(lambda number=number: self.together.waiting == number)
            finally:
                self.store.go.set()
        first.result()
        return answers

    def _ingest(self, request: list[object]) -> Changes:
        return self.together.ingest(parse_payload({"alerts": request}), NOW)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def desk() -> Desk:
    return Desk()


def accounts_of(answer: Future[Changes]) -> list[str]:
    return [_account(entry.received.item) for entry in answer.result().entries]


def test_requests_that_wait_are_stored_in_one_transaction_and_each_gets_its_own_outcomes(desk: Desk) -> None:
    answers = desk.meet(alerts("a", "b"), alerts(), [*alerts("a"), 7])
    assert desk.store.calls == [["first"], ["a", "b", "a", "rejected"]]
    assert [accounts_of(answer) for answer in answers] == [["a", "b"], [], ["a", "rejected"]]
    assert answers[2].result().entries[0].label == "duplicate", "it sees what came before it"
    assert isinstance(answers[2].result().entries[1].received.item, Rejected)
    assert desk.count("sentinel_alerts_received_total") == 5
    assert desk.count("sentinel_alert_outcomes_total", outcome="created") == 3
    assert desk.count("sentinel_ingest_seconds_count") == 4


def test_a_request_that_the_store_refuses_harms_no_other(desk: Desk) -> None:
    desk.store.bad = lambda accounts: StoreUnavailable("refused") if "bad" in accounts else None
    good, bad, other = desk.meet(alerts("a"), alerts("bad"), alerts("b"))
    assert (accounts_of(good), accounts_of(other)) == (["a"], ["b"])
    with pytest.raises(StoreUnavailable, match="refused"):
        bad.result()
    assert desk.count("sentinel_alerts_received_total") == 3
    assert sorted(desk.store.calls[2:]) == [["a"], ["b"], ["bad"]]


def test_a_fault_of_ours_is_told_to_whom_it_befell(desk: Desk) -> None:
    desk.store.bad = lambda accounts: ZeroDivisionError() if "bad" in accounts else None
    good, bad = desk.meet(alerts("a"), alerts("bad"))
    assert accounts_of(good) == ["a"]
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_a_group_that_met_another_process_is_tried_again_as_one(desk: Desk) -> None:
    desk.store.bad = lambda _: StoreConflict("later") if len(desk.store.calls) == 2 else None
    answers = desk.meet(alerts("a"), alerts("b"))
    assert desk.store.calls[1:] == [["a", "b"], ["a", "b"]]
    assert [accounts_of(answer) for answer in answers] == [["a"], ["b"]]
    assert desk.count("sentinel_ingest_conflicts_total") == 1


def test_a_group_is_bounded(desk: Desk) -> None:
    many = [f"acc_{number}" for number in range(300)]
    answers = desk.meet(alerts(*many), alerts(*many), alerts("last"))
    assert [len(call) for call in desk.store.calls] == [1, 300, 301]
    assert [len(answer.result().entries) for answer in answers] == [300, 300, 1]


def test_whoever_waits_too_long_is_told_to_come_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store hangs with the first one; those who wait are not taken along when it is well again."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk._ingest, alerts("first"))
        desk.store.entered.wait()
        monkeypatch.setattr("webhook.pipeline.together.LONGEST_TURN_S", 0.01)
        with pytest.raises(StoreUnavailable, match="not stored"):
            desk._ingest(alerts("late"))
        desk.store.go.set()
        first.result()
    monkeypatch.undo()
    desk._ingest(alerts("after"))
    assert desk.store.calls == [["first"], ["after"]]
