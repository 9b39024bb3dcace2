"""The payments store and the metric platform on both databases, with the real clock in the view."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from demo import attacks
from demo.history import write_history
from demo.metric_platform import PATH, create_app
from demo.metrics import FAMILIES, VIEW_COLUMNS, window_metrics
from demo.payments import PaymentsStore, save_settings
from demo.progress import ProgressLine
from demo.simulator import Simulator, SimulatorConfig

CONFIG = SimulatorConfig(merchants=25, rate=5.0, seed=11, history=900.0)
BEARER = {"Authorization": "Bearer platform-secret"}


@pytest.fixture
def store(store_url: str) -> Iterator[PaymentsStore]:
    made = PaymentsStore(store_url)
    made.create(window=120.0)
    yield made
    made.close()


@pytest.fixture
def filled(store: PaymentsStore) -> float:
    """15 minutes of history and an attack; returns its end."""
    now = time.time() - 1.0
    write_history(store, CONFIG, now - 30, ProgressLine("history"))
    simulator = Simulator(store, CONFIG, now - 30)
    with store.write() as connection:
        attacks.start_attack(connection, "acc_003", "card_testing", now - 30)
    simulator.step(now)
    return now


def client(store: PaymentsStore, now: float) -> FlaskClient:
    return create_app(store, "platform-secret", lambda: now).test_client()


def test_the_view_is_the_definition_over_the_last_seconds(store: PaymentsStore, filled: float) -> None:
    with store.write() as connection:
        save_settings(connection, {"rate_window": 10_000.0})  # nothing leaves the window while the test looks
    with store.read() as connection:
        rows = connection.execute(sa.text("SELECT * FROM merchant_metrics ORDER BY account_id")).mappings().all()
        expected = window_metrics(connection, filled - 10_000.0, filled)
    assert rows
    assert tuple(rows[0]) == VIEW_COLUMNS
    for row, same in zip(rows, expected, strict=True):
        assert dict(row) == {name: same[name] for name in VIEW_COLUMNS}
        assert isinstance(row["transaction_rate"], float)


def test_the_view_forgets_what_left_the_window(store: PaymentsStore, filled: float) -> None:
    with store.write() as connection:
        connection.execute(sa.text("UPDATE transactions SET created_at = created_at - 200"))
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT * FROM merchant_metrics")).all() == []


def test_history_is_there_once_and_old_payments_go(store: PaymentsStore, filled: float) -> None:
    count = sa.text("SELECT count(*), min(created_at) FROM transactions")
    assert write_history(store, CONFIG, filled, ProgressLine("history")) == 0
    simulator = Simulator(store, CONFIG, filled)
    for later in (1.0, 100.0, 400.0):
        simulator.step(filled + later)
    with store.read() as connection:
        _, oldest = connection.execute(count).one()
    assert oldest >= filled + 400 - 900


def test_the_platform_answers_as_documented(store: PaymentsStore, filled: float) -> None:
    api = client(store, filled)
    seen: list[dict[str, Any]] = []
    page, more = 1, True
    while more:
        parameters = {"metric_names": "failed_auth_rate", "page": page, "page_size": 10}
        body = api.get(PATH, query_string=parameters, headers=BEARER).get_json()
        seen += body["data"]
        more, page = body["pagination"]["has_more"], page + 1
    with store.read() as connection:
        expected = window_metrics(connection, filled - 120.0, filled)
    assert len(expected) > 20  # at a quiet hour one of the 25 may have no payment in the window
    assert body["pagination"] == {"total": len(expected), "page": 3, "page_size": 10, "has_more": False}
    assert [row["account_id"] for row in seen] == [row["account_id"] for row in expected]
    attacked = next(row for row in seen if row["account_id"] == "acc_003")
    truth = next(row for row in expected if row["account_id"] == "acc_003")
    assert truth["failed_auth_rate"] > 0.7
    assert attacked["merchant_name"] == truth["merchant_name"]
    assert attacked["metadata"] == {"region": truth["region"], "source_system": "metric-platform"}
    assert attacked["metrics"] == [
        {
            "metric_name": "failed_auth_rate",
            "metric_value": truth["failed_auth_rate"],
            "aggregation": "avg",
            "sample_count": truth["transaction_count"],
        }
    ]


def test_accounts_metrics_and_times_are_chosen_by_parameters(store: PaymentsStore, filled: float) -> None:
    api = client(store, filled)
    parameters = {"account_ids": "acc_003,acc_004", "aggregation": "sum"}
    body = api.get(PATH, query_string=parameters, headers=BEARER).get_json()
    assert [row["account_id"] for row in body["data"]] == ["acc_003", "acc_004"]
    names = {metric["metric_name"] for metric in body["data"][0]["metrics"]}
    assert names == {name for name, family in FAMILIES.items() if family.aggregation == "sum"}
    old = {"time_from": "2020-01-01T00:00:00Z", "time_to": "2020-01-01T00:05:00Z"}
    body = api.get(PATH, query_string=old, headers=BEARER).get_json()
    assert (body["data"], body["pagination"]["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"metric_names": "block_rates"}, "no metric 'block_rates'; metric_names are: block_rate"),
        ({"aggregation": "max"}, "aggregation 'max' is not one of avg, sum"),
        ({"aggregation": "sum", "metric_names": "block_rate"}, "block_rate is aggregated by avg"),
        ({"page": "0"}, "page must be a whole number, at least 1"),
        ({"page_size": "5000"}, "page_size must be a whole number, 1 to 1000"),
        ({"time_from": "yesterday"}, "time_from must be an ISO 8601 time"),
        ({"time_from": "2025-01-01T00:00:00"}, "time_from needs a time zone"),
        ({"time_from": "2099-01-01T00:00:00Z"}, "time_from must be before time_to"),
    ],
)
def test_bad_parameters_are_explained(store: PaymentsStore, parameters: dict[str, str], words: str) -> None:
    answer = client(store, time.time()).get(PATH, query_string=parameters, headers=BEARER)
    assert answer.status_code == 400
    assert words in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic platform-secret", "platform-secret"])
def test_without_the_token_nothing_is_told(store: PaymentsStore, header: str) -> None:
    api = client(store, time.time())
    answer = api.get(PATH, headers={"Authorization": header})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert api.get("/-/healthy").status_code == 200
    missing = api.get("/nowhere")
    assert (missing.status_code, missing.get_json()["error"]["code"]) == (404, "not_found")
