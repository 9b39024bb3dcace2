"""The store's history as Prometheus blocks, as if the exporter had been scraped all along, and the rules had run."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import polars as pl
import sqlalchemy as sa

from demo.errors import DemoError
from demo.metrics import FAMILIES
from demo.payments import PaymentsStore, chargebacks, load_merchants, load_settings, transactions
from demo.progress import ProgressLine
from demo.rolling import rolling_metrics

STEP = 60.0
"""Seconds between samples."""

BLOCK = 7200.0
"""Seconds of a Prometheus block; blocks begin at multiples of it."""

RECORDED = (*(f"account:{family.name}:max" for family in FAMILIES.values()), "account:sentinel_block_rate:usual")
"""What the rules in merchants.yml would have recorded of each merchant: there is one series of it in the history.

Each minute: of what is usual more often than they do, so that a day of history is surely enough for a baseline.
"""

_READ = ("account_id", "card_id", "amount", "status", "amount_ratio", "created_at")


def has_blocks(tsdb_dir: Path) -> bool:
    """Whether Prometheus, or an earlier backfill, has written there."""
    return (tsdb_dir / "wal").is_dir() or any(tsdb_dir.glob("*/meta.json"))


def backfill(
    database_url: str,
    tsdb_dir: Path,
    *,
    job: str,
    instance: str,
    promtool: str,
    until: float,
    progress: ProgressLine | None = None,
) -> int:
    """Write blocks of all families up to `until` (epoch seconds) into `tsdb_dir`; returns the number of samples.

    Prometheus must not be running on that folder. Raises DemoError when the folder has data already, when the
    store has no history, or when promtool fails.
    """
    if has_blocks(tsdb_dir):
        raise DemoError(f"{tsdb_dir} has metrics already")
    progress = progress or ProgressLine("metric history")
    store = PaymentsStore(database_url)
    try:
        store.require()
        frame = _history(store, until, progress)
    finally:
        store.close()
    if frame.is_empty():
        raise DemoError("the payments store has no history to backfill")
    tsdb_dir.mkdir(parents=True, exist_ok=True)
    samples = 0
    # promtool reads its whole input once for each block it makes: one file for each block reads it all but once.
    blocks = frame.with_columns((pl.col("at") // BLOCK).alias("block")).partition_by("block", include_key=False)
    with tempfile.TemporaryDirectory(dir=tsdb_dir.parent) as folder:
        for done, block in enumerate(blocks, 1):
            text = Path(folder) / "history.om"
            with text.open("wb") as target:
                samples += write_openmetrics(target, block, {"job": job, "instance": instance})
            _create_block(promtool, text, tsdb_dir)
            progress.update(0.6 + 0.4 * done / len(blocks), f"{samples:,} samples")
    progress.done(f"{samples:,} samples of {frame['account_id'].n_unique()} merchants")
    return samples


def _history(store: PaymentsStore, until: float, progress: ProgressLine) -> pl.DataFrame:
    """The rolling metrics of every merchant with its names, one row per merchant and instant."""
    frames: list[pl.DataFrame] = []
    with store.read() as connection:
        settings = load_settings(connection)
        window, speed = float(settings["rate_window"]), float(settings["speed"])
        oldest = connection.execute(sa.select(sa.func.min(transactions.c.created_at))).scalar_one()
        if oldest is None:
            return pl.DataFrame()
        last = float(int(until))
        # The first sample has a whole window behind it, as an exporter that had been running would.
        count = int((last - oldest - window) // STEP) + 1
        merchants = load_merchants(connection)
        for done, merchant in enumerate(merchants, 1):
            spent, reported = _rows(connection, merchant["account_id"])
            names = (pl.lit(merchant[name]).alias(name) for name in ("merchant_name", "region"))
            metrics = rolling_metrics(
                spent,
                reported,
                first=last - STEP * (count - 1),
                step=STEP,
                count=count,
                window=window,
                speed=speed,
            )
            frames.append(metrics.with_columns(*names))
            progress.update(0.6 * done / len(merchants), merchant["account_id"])
    return pl.concat(frames) if frames else pl.DataFrame()


def _rows(connection: sa.Connection, account_id: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    kinds: dict[str, pl.DataType] = {
        name: pl.Float64() if name in {"amount", "amount_ratio", "created_at"} else pl.String() for name in _READ
    }
    spent = sa.select(*(transactions.c[name] for name in _READ)).where(transactions.c.account_id == account_id)
    reported = sa.select(chargebacks.c.account_id, chargebacks.c.created_at).where(
        chargebacks.c.account_id == account_id
    )
    return (
        pl.DataFrame([tuple(row) for row in connection.execute(spent)], schema=kinds, orient="row"),
        pl.DataFrame(
            [tuple(row) for row in connection.execute(reported)],
            schema={"account_id": pl.String, "created_at": pl.Float64},
            orient="row",
        ),
    )


def write_openmetrics(target: IO[bytes], frame: pl.DataFrame, extra_labels: Mapping[str, str]) -> int:
    """All families of `frame` (account_id, merchant_name, region, at, metrics) as OpenMetrics text.

    What rules record of them has no labels but the account's. Returns the number of samples; a null value has none.
    """
    samples = 0
    for family in FAMILIES.values():
        written = [(family.name, family.labels, extra_labels)]
        written += [(recorded, ("account_id",), {}) for recorded in RECORDED if family.name == recorded.split(":")[1]]
        for name, labels, extra in written:
            target.write(f"# TYPE {name} gauge\n".encode())
            for lines in _lines(frame, family.column, _series(name, labels, extra)):
                samples += lines.height
                lines.write_csv(target, include_header=False, quote_style="never")
    target.write(b"# EOF\n")
    return samples


def _series(name: str, labels: Sequence[str], extra: Mapping[str, str]) -> list[pl.Expr]:
    pairs: list[list[pl.Expr]] = [[pl.lit(f'{label}="'), _escaped(pl.col(label)), pl.lit('"')] for label in labels]
    pairs += [[pl.lit(f'{label}="{value}"')] for label, value in extra.items()]
    between = [[*pair, pl.lit(",")] for pair in pairs]
    return [pl.lit(f"{name}{{"), *[piece for pair in between for piece in pair][:-1], pl.lit("} ")]


def _lines(frame: pl.DataFrame, column: str, series: Sequence[pl.Expr]) -> Iterator[pl.DataFrame]:
    text = pl.concat_str(
        *series,
        pl.col(column).cast(pl.String),
        pl.lit(" "),
        pl.col("at").cast(pl.Int64).cast(pl.String),
    )
    for rows in frame.filter(pl.col(column).is_not_null()).iter_slices(50_000):
        yield rows.select(text.alias("line"))


def _escaped(value: pl.Expr) -> pl.Expr:
    escaped = value
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        escaped = escaped.str.replace_all(plain, written, literal=True)
    return escaped


def _create_block(promtool: str, text: Path, tsdb_dir: Path) -> None:
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(tsdb_dir)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DemoError(f"no {promtool}: install Debian's prometheus package, or give --promtool") from error
    except subprocess.CalledProcessError as error:
        raise DemoError(f"promtool: {(error.stderr or error.stdout).strip()}") from error
