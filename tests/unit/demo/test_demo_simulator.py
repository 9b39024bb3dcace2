"""Seen through the metrics that the rules read; time is an argument."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from demo import attacks
from demo.errors import DemoError
from demo.history import write_history
from demo.merchants import make_population
from demo.metrics import window_metrics
from demo.payments import PaymentsStore, transactions
from demo.progress import ProgressLine
from demo.simulator import CATCH_UP, Simulator, SimulatorConfig

NOW = 1_750_000_000.0
SMALL = SimulatorConfig(merchants=10, rate=2.0, seed=3)


@pytest.fixture
def store(tmp_path: Path) -> PaymentsStore:
    made = PaymentsStore(f"sqlite:///{tmp_path}/payments.sqlite")
    made.create()
    return made


def run(simulator: Simulator, since: float, seconds: int) -> float:
    for tick in range(1, seconds + 1):
        simulator.step(since + tick)
    return since + seconds


def metrics(store: PaymentsStore, at: float) -> dict[str, dict[str, Any]]:
    with store.read() as connection:
        return {row["account_id"]: row for row in window_metrics(connection, at - 120.0, at)}


def begin(store: PaymentsStore, kind: str, at: float, **options: float) -> attacks.Attack:
    with store.write() as connection:
        return attacks.start_attack(connection, "acc_002", kind, at, **options)


def test_ordinary_traffic_stays_under_the_rules(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW)
    now = NOW + 600
    for at in (NOW + 0.5, NOW + 20, now):
        simulator.step(at)
    with store.read() as connection:
        every = window_metrics(connection, NOW, now)
        count = connection.execute(sa.select(sa.func.count()).select_from(transactions)).scalar_one()
    assert len(every) == 10
    assert 600 < count < 2400  # 2 a second, more or less by the hour
    failed = sum(row["failed_auth_rate"] * row["transaction_count"] for row in every) / count
    assert 0.05 < failed < 0.18
    assert 0.02 < sum(row["block_rate"] * row["transaction_count"] for row in every) / count < 0.08


def test_the_same_seed_and_moment_give_the_same_payments(tmp_path: Path) -> None:
    seen = []
    for name in ("a", "b"):
        store = PaymentsStore(f"sqlite:///{tmp_path}/{name}.sqlite")
        store.create()
        run(Simulator(store, SMALL, NOW), NOW, 30)
        with store.read() as connection:
            seen.append(connection.execute(sa.select(transactions)).all())
    assert seen[0] == seen[1]
    assert seen[0]


def test_card_testing_meets_the_critical_rule_within_a_minute(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW)
    now = run(simulator, NOW, 120)
    begin(store, "card_testing", now)
    row = metrics(store, run(simulator, now, 10))["acc_002"]
    assert row["transaction_count"] > 100
    row = metrics(store, run(simulator, now + 10, 40))["acc_002"]
    assert row["transaction_count"] > 500
    assert row["block_rate"] > 0.5
    assert row["failed_auth_rate"] > 0.7


def test_velocity_is_hundreds_a_second_on_few_cards(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW)
    begin(store, "velocity", NOW)
    row = metrics(store, run(simulator, NOW, 60))["acc_002"]
    assert row["transaction_rate"] > 100
    assert row["unique_card_count"] / row["transaction_count"] < 0.1
    # An attack on one merchant brings the others no chargebacks.
    assert sum(other["chargeback_count"] for other in metrics(store, NOW + 60).values()) < 5


def test_account_takeover_spends_a_multiple_on_known_cards(store: PaymentsStore) -> None:
    config = replace(SMALL, history=6 * 3600.0)  # long enough for habits
    write_history(store, config, NOW - 1, ProgressLine("history"))
    simulator = Simulator(store, config, NOW - 1)
    before = metrics(store, NOW)["acc_002"]["unusual_spend_rate"]
    begin(store, "account_takeover", NOW)
    now = run(simulator, NOW, 60)
    assert before < 0.1
    assert metrics(store, now)["acc_002"]["unusual_spend_rate"] > 0.4
    with store.read() as connection:
        known = sa.select(transactions.c.card_id).where(transactions.c.created_at < NOW)
        sent = sa.select(transactions).where(transactions.c.is_fraud)
        frauds = connection.execute(sent).all()
        cards = set(connection.execute(known).scalars())
    assert all(row.new_device for row in frauds)
    assert sum(row.card_id in cards for row in frauds) > 0.7 * len(frauds)


def test_chargebacks_are_reported_on_earlier_approved_transactions_once(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW - 600)
    simulator.step(NOW)
    begin(store, "chargeback", NOW, intensity=1.0)
    now = run(simulator, NOW, 90)
    row = metrics(store, now)["acc_002"]
    assert row["chargeback_count"] > 30
    assert row["chargeback_rate"] == pytest.approx(row["chargeback_count"] / row["transaction_count"])
    with store.read() as connection:
        joined = sa.text(
            "SELECT t.status, t.created_at < c.created_at FROM chargebacks c JOIN transactions t "
            "ON t.id = c.transaction_id AND t.account_id = c.account_id"
        )
        pairs = connection.execute(joined).all()
        total = connection.execute(sa.text("SELECT count(*) FROM chargebacks")).scalar_one()
    assert len(pairs) == total
    assert set(pairs) == {("approved", 1)}


def test_an_attack_ends_at_its_time_or_when_stopped(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW)
    begin(store, "card_testing", NOW, minutes=0.5)
    now = run(simulator, NOW, 60)
    with store.read() as connection:
        last = connection.execute(
            sa.select(sa.func.max(transactions.c.created_at)).where(transactions.c.is_fraud)
        ).scalar_one()
    assert NOW + 28 < last <= NOW + 30
    begin(store, "card_testing", now)
    with store.write() as connection:
        stopped = attacks.stop_attacks(connection, now + 5, merchant="acc_002")
        assert [attack.type for attack in stopped] == ["card_testing"]
        assert attacks.running(connection, now + 6) == []


def test_a_late_tick_is_caught_up_but_a_long_pause_stays_a_gap(store: PaymentsStore) -> None:
    simulator = Simulator(store, SMALL, NOW)
    simulator.step(NOW + 100)
    resumed = Simulator(store, SMALL, NOW + 200)  # as after a restart
    resumed.step(NOW + 200)
    resumed.step(NOW + 90_000)
    with store.read() as connection:
        at = connection.execute(sa.select(transactions.c.created_at)).scalars().all()
        ids = connection.execute(sa.select(transactions.c.id)).scalars().all()
    assert len(ids) == len(set(ids))
    # The restart filled its pause; the day after that is a gap, and the first hour has left the history.
    assert all(moment > NOW + 90_000 - CATCH_UP for moment in at)
    assert max(at) > NOW + 90_000 - 30


def test_errors_list_what_exists(store: PaymentsStore) -> None:
    Simulator(store, SMALL, NOW)
    with store.write() as connection:
        with pytest.raises(DemoError, match="no attack type 'ddos'; there are: card_testing, velocity"):
            attacks.start_attack(connection, "acc_001", "ddos", NOW)
        with pytest.raises(DemoError, match="no merchant 'nobody'; there are: acc_001 Harbour Coffee Roasters"):
            attacks.start_attack(connection, "nobody", "velocity", NOW)
        with pytest.raises(DemoError, match="'ar' fits several: acc_001 Harbour"):
            attacks.start_attack(connection, "ar", "velocity", NOW)
        assert attacks.start_attack(connection, "bluebird", "velocity", NOW).account_id == "acc_005"
        with pytest.raises(DemoError, match="acc_005 is under a velocity attack already"):
            attacks.start_attack(connection, "acc_005", "velocity", NOW + 1)


def test_another_number_of_merchants_is_refused(store: PaymentsStore) -> None:
    Simulator(store, SMALL, NOW)
    with pytest.raises(DemoError, match="has 10 merchants, not 50"):
        Simulator(store, SimulatorConfig(), NOW)


def test_the_default_population_spreads_from_2_to_60_a_minute() -> None:
    tempos = make_population(50, 8.0, 7).frame["tx_per_minute"]
    assert tempos.sum() / 60 == pytest.approx(8.0, rel=0.05)
    assert float(tempos.min()) >= 2.0  # type: ignore[arg-type]
    assert float(tempos.max()) <= 60.0  # type: ignore[arg-type]
    assert float(tempos.max()) > 4 * float(tempos.median())  # type: ignore[arg-type]
