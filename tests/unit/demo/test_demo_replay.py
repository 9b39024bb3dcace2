from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from demo.dataset import DatasetOptions, choice_table, load_dataset
from demo.errors import DemoError
from demo.metrics import window_metrics
from demo.payments import PaymentsStore, chargebacks, load_settings, transactions
from demo.replay import Replay, ReplayClock, describe, length, plan_replay
from demo.simulator import Simulator, SimulatorConfig

T0 = 1_700_000_000
START = 5_000_000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """10 days, one transaction an hour, alternating between terminals 150 and 250; each tenth a fraud."""
    count = 240
    pl.DataFrame(
        {
            "time": [T0 + 3600 * k for k in range(count)],
            "terminal_id": [150 if k % 2 else 250 for k in range(count)],
            "card": [f"c{k % 4}" for k in range(count)],
            "amount": [10.0 if k != 200 else 100.0 for k in range(count)],
            "is_fraud": [k % 10 == 0 for k in range(count)],
            "disputed": [k in (0, 100) for k in range(count)],
        }
    ).write_parquet(tmp_path / "own.parquet")
    return tmp_path / "own.parquet"


@pytest.fixture
def store(tmp_path: Path) -> PaymentsStore:
    made = PaymentsStore(f"sqlite:///{tmp_path}/payments.sqlite")
    made.create()
    return made


def test_rows_come_when_their_time_has_come(file: Path, store: PaymentsStore) -> None:
    dataset = load_dataset(file, DatasetOptions(merchant_group=100, columns={"chargeback": "disputed"}))
    plan = plan_replay(dataset, speed=86_400.0, window=2 * 86_400.0)
    replay = Replay(store, dataset, plan, START)
    assert plan.wall_seconds == pytest.approx(239 / 24)
    assert replay.step(START - 1) == 0
    assert replay.step(START + 2) == 49
    with store.read() as connection:
        settings = load_settings(connection)
        rows = window_metrics(connection, START + 2 - plan.wall_window, START + 2)
        first = connection.execute(sa.select(transactions).order_by(transactions.c.id)).first()
    assert (settings["mode"], float(settings["rate_window"])) == ("replay", 2.0)
    assert [(row["account_id"], row["merchant_name"]) for row in rows] == [
        ("acc_001", "terminal_id 100-199"),
        ("acc_002", "terminal_id 200-299"),
    ]
    # 24 transactions each in two days, and the rate is per second of the data.
    assert [row["transaction_count"] for row in rows] == [24, 24]
    assert rows[0]["transaction_rate"] == pytest.approx(24 / (2 * 86_400))
    assert rows[0]["block_rate"] is None
    assert rows[0]["chargeback_count"] == 0
    assert first is not None
    assert (first.created_at, first.source_time, first.is_fraud) == (START, T0, True)


def test_a_replay_ends_with_everything_written_and_chargebacks_reported_late(file: Path, store: PaymentsStore) -> None:
    dataset = load_dataset(file, DatasetOptions(columns={"chargeback": "disputed"}, chargeback_delay=7 * 86_400.0))
    replay = Replay(store, dataset, plan_replay(dataset, speed=86_400.0), START)
    replay.step(START + 6.9)
    with store.read() as connection:
        assert connection.execute(sa.select(chargebacks)).all() == []
    assert not replay.finished
    replay.step(START + 100)
    assert replay.finished
    assert replay.progress(START + 100)[0] == 1.0
    with store.read() as connection:
        reported = connection.execute(sa.select(chargebacks)).all()
        count = connection.execute(sa.select(sa.func.count()).select_from(transactions)).scalar_one()
    # The second falls after the end of the file, which is said.
    assert [(row.transaction_id, row.created_at) for row in reported] == [(1, START + 7)]
    assert any("1 of 2 chargebacks fall after the end" in note for note in dataset.notes)
    assert count == 240


def test_defaults_are_chosen_from_the_data_and_explained(file: Path) -> None:
    dataset = load_dataset(file, DatasetOptions(merchant_group=100))
    plan = plan_replay(dataset)
    text = "\n".join([choice_table(dataset), *describe(dataset, plan)])
    assert plan.speed == pytest.approx(2867, abs=1)  # at least five minutes in all
    assert plan.window == plan.data_end - plan.data_start  # 120 in all: no shorter window holds 100
    assert "no status column: block_rate and failed_auth_rate cannot be computed" in text
    assert "so the card testing and block rate rules cannot fire" in text
    assert "terminal_id" in text
    busy = load_dataset(file, DatasetOptions(columns={"merchant": "is_fraud"}))
    assert plan_replay(busy, window=3600.0).window == 3600.0
    with pytest.raises(DemoError, match="above 0"):
        plan_replay(busy, speed=0.0)


def test_rows_without_time_or_merchant_are_left_out_and_told(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("ts,shop,amount,status\n200,a,x,approved\n100,a,2,weird\n,a,3,declined\n300,,4,approved\n")
    dataset = load_dataset(file, DatasetOptions(columns={"status": "status"}))
    assert dataset.rows["source_time"].to_list() == [100.0, 200.0]
    assert dataset.rows["status"].to_list() == [None, "approved"]
    assert "2 rows without a time or a merchant are left out" in dataset.notes
    assert any("1 rows have no status" in note for note in dataset.notes)
    with pytest.raises(DemoError, match="needs whole numbers; shop has 'a'"):
        load_dataset(file, DatasetOptions(merchant_group=10))


def test_simulated_and_replayed_payments_do_not_mix(file: Path, store: PaymentsStore) -> None:
    dataset = load_dataset(file, DatasetOptions())
    simulator = Simulator(store, SimulatorConfig(merchants=3, rate=1.0), START)
    simulator.step(START + 60)
    with pytest.raises(DemoError, match="holds simulated payments"):
        Replay(store, dataset, plan_replay(dataset), START)


def test_a_second_replay_replaces_the_first_and_bars_the_simulator(file: Path, store: PaymentsStore) -> None:
    dataset = load_dataset(file, DatasetOptions())
    for start in (START, START + 500):
        Replay(store, dataset, plan_replay(dataset, speed=86_400.0), start).step(start + 1)
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(transactions)).scalar_one() == 25
        clock = ReplayClock.loads(load_settings(connection)["replay"])
    assert clock.data_time(START + 501) == T0 + 86_400
    with pytest.raises(DemoError, match="holds a replayed file"):
        Simulator(store, SimulatorConfig(merchants=3), START)


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.5, "12.5 s"), (250, "4 min 10 s"), (129_600, "1 d 12 h"), (3600, "1 h")]
)
def test_lengths_read_well(seconds: float, text: str) -> None:
    assert length(seconds) == text
