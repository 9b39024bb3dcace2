from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from demo.columns import choose_columns, flags, numbers, read_table, statuses, times
from demo.errors import DemoError


def chosen(frame: pl.DataFrame, **wanted: str) -> dict[str, str | None]:
    return {role: choice.column for role, choice in choose_columns(frame, wanted, {}).items()}


def test_guesses_by_name_and_content() -> None:
    frame = pl.DataFrame(
        {
            "id": ["1", "2"],
            "created_at": ["2024-03-01 10:00:00", "2024-03-01 10:00:01"],
            "merchantId": ["7", "8"],
            "card_hash": ["x", "y"],
            "amt": ["1.00", "2.00"],
            "response_code": ["17", "18"],
            "payment_status": ["Approved", "Declined"],
            "is_fraud": ["0", "1"],
            "chargeback": ["no", "yes"],
        }
    )
    assert chosen(frame) == {
        "time": "created_at",
        "merchant": "merchantId",
        "card": "card_hash",
        "amount": "amt",
        "status": "payment_status",
        "label": "is_fraud",
        "chargeback": "chargeback",
    }


def test_the_published_column_names_and_a_column_that_only_looks_right() -> None:
    frame = pl.DataFrame(
        {
            "TRANSACTION_ID": ["0"],
            "TX_DATETIME": ["2018-04-01 00:00:31"],
            "CUSTOMER_ID": ["596"],
            "TERMINAL_ID": ["3156"],
            "TX_AMOUNT": ["57.16"],
            "TX_TIME_SECONDS": ["31"],
            "TX_FRAUD": ["0"],
            "TX_FRAUD_SCENARIO": ["0"],
            "ORDER_STATUS": ["shipped"],
        }
    )
    choices = choose_columns(frame, {}, {})
    assert choices["time"].column == "TX_DATETIME"
    assert choices["merchant"].column == "TERMINAL_ID"
    assert choices["card"].column == "CUSTOMER_ID"
    assert choices["label"].column == "TX_FRAUD"
    assert choices["status"].column is None
    assert "ORDER_STATUS" in choices["status"].why


def test_options_go_first_and_none_means_none() -> None:
    frame = pl.DataFrame({"time": ["2024-03-01"], "shop": ["a"], "account": ["b"], "fraud": ["1"]})
    assert chosen(frame, merchant="account", label="none") | {"time": None} == dict.fromkeys(
        ("time", "card", "amount", "status", "label", "chargeback")
    ) | {"merchant": "account"}
    with pytest.raises(DemoError, match="no such column; there are: time, shop, account, fraud"):
        chosen(frame, merchant="acount")
    with pytest.raises(DemoError, match="no column for the time found; name it with --time"):
        chosen(frame.drop("time"))


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-01 00:00:31",
        "2018-04-01T00:00:31Z",
        "2018-04-01T02:00:31+02:00",
        "2018-04-01T00:00:31.000+0000",
        "2018-04-01 00:00:31 UTC",
        "1522540831",
        "1522540831000",
        "1522540831000000",
    ],
)
def test_times_in_the_usual_ways_of_writing(text: str) -> None:
    assert times(pl.Series([text, text, None])).to_list() == [1522540831.0, 1522540831.0, None]


def test_typed_times_and_dates() -> None:
    zoned = pl.Series(["2018-04-01 02:00:31"]).str.to_datetime().dt.replace_time_zone("Europe/Berlin")
    assert times(zoned).to_list() == [1522540831.0]
    assert times(pl.Series(["2018-04-01"]).str.to_date()).to_list() == [1522540800.0]
    assert times(pl.Series([31, 130])).to_list() == [31.0, 130.0]


def test_values_as_people_write_them() -> None:
    words = pl.Series(["Approved", "do not honor", "BLOCKED", "05", "what", None])
    assert statuses(words, {"05": "declined"}).to_list() == ["approved", "declined", "blocked", "declined", None, None]
    assert flags(pl.Series(["TRUE", "0", "2", None])).to_list() == [True, False, None, False]
    assert flags(pl.Series([1.0, 0.0])).to_list() == [True, False]
    assert numbers(pl.Series(["$1,200.50", "-", None])).to_list() == [1200.5, None, None]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    for name, words in (("a.parquet", "cannot be read"), ("missing.csv", "cannot be read"), ("a.xlsx", r"\.csv")):
        with pytest.raises(DemoError, match=words):
            read_table(tmp_path / name)
