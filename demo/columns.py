"""Which column of somebody's transaction export is what: guesses by name and content, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from demo.errors import DemoError

ROLES = ("time", "merchant", "card", "amount", "status", "label", "chargeback")
REQUIRED = ("time", "merchant")
NONE = "none"
"""What one gives as a column to say that there is none of that kind."""

# Patterns on names in lower snake case, most telling first.
_NAMES: dict[str, tuple[str, ...]] = {
    "time": (
        r"datetime|timestamp",
        r"(created|occurred|transaction|trans|tx|event|auth)_?(at|time|date)(_|$)",
        r"(^|_)time($|_)",
        r"(^|_)date($|_)|^ts$",
    ),
    "merchant": (
        r"merchant_?(id|no|code)|^mid$",
        r"merchant",
        r"terminal",
        r"shop|store|seller|vendor|acceptor",
        r"account",
    ),
    "card": (r"card_?(id|hash|token|no|num)|^pan$|cc_num", r"card", r"customer|client|payer|user"),
    "amount": (r"amount", r"(^|_)amt(_|$)", r"price|total|value"),
    "status": (r"status", r"decision|outcome|auth_?result", r"response|result"),
    "label": (r"(^|_)(is_?)?fraud(ulent)?$", r"fraud_?(flag|label)", r"^(class|label)$"),
    "chargeback": (r"charge_?back", r"(^|_)cbk?($|_)", r"disputed?$"),
}

_STATUS_WORDS: dict[str, str] = {
    "approved": r"approved?|accept(ed)?|success(ful)?|succeeded|captured|authori[sz]ed|settled|paid|completed?|ok",
    "blocked": r"block(ed)?|reject(ed)?|(risk|fraud)_(blocked|declined)",
    "declined": r"declined?|refused?|fail(ed|ure)|denied|error|insufficient_funds|do_not_hono(u)?r|expired_card",
}
STATUSES = tuple(_STATUS_WORDS)
_TRUE, _FALSE = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n", "")


@dataclass(frozen=True)
class Choice:
    """`column` plays `role`; None: the file has none."""

    role: str
    column: str | None
    why: str


def read_table(path: Path) -> pl.DataFrame:
    """A csv (also gzipped) or parquet file; csv cells stay text. Raises DemoError where it cannot be read."""
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.name.endswith((".csv", ".csv.gz")):
            return pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DemoError(f"{path} cannot be read: {error}") from error
    raise DemoError(f"{path.name}: a .csv, .csv.gz or .parquet file is needed")


def choose_columns(
    frame: pl.DataFrame, wanted: Mapping[str, str], status_values: Mapping[str, str]
) -> dict[str, Choice]:
    """One choice for each role. `wanted`: role → column (or `none`) as given by options; these go first.

    Raises DemoError for a column that is not there, and when no column for the time or the merchant is found.
    """
    choices: dict[str, Choice] = {}
    for role, column in wanted.items():
        if column != NONE and column not in frame.columns:
            raise DemoError(f"--{role} {column}: no such column; there are: {', '.join(frame.columns)}")
        choices[role] = Choice(role, None if column == NONE else column, "by option")
    for role in ROLES:
        if role not in choices:
            taken = {choice.column for choice in choices.values()}
            choices[role] = _guess(frame, role, taken, status_values)
    missing = [role for role in REQUIRED if choices[role].column is None]
    if missing:
        there = ", ".join(frame.columns)
        raise DemoError(f"no column for the {missing[0]} found; name it with --{missing[0]}; there are: {there}")
    return {role: choices[role] for role in ROLES}


def _guess(frame: pl.DataFrame, role: str, taken: set[str | None], status_values: Mapping[str, str]) -> Choice:
    free = [column for column in frame.columns if column not in taken]
    refused = ""
    for pattern in _NAMES[role]:
        for column in free:
            found = re.search(pattern, _snake(column))
            if not found:
                continue
            problem = _misfit(frame[column], role, status_values)
            if not problem:
                return Choice(role, column, f"its name says “{found.group().strip('_')}”")
            refused = refused or f"{column} {problem}"
    return Choice(role, None, refused or "no column with such a name")


def _misfit(column: pl.Series, role: str, status_values: Mapping[str, str]) -> str:
    """Why the content does not fit the role; empty when it does."""
    sample = column.head(10_000)
    known = max(1, sample.len() - sample.null_count())
    if role == "time" and times(sample).drop_nulls().is_empty():
        return "holds no times"
    if role == "amount" and numbers(sample).count() * 2 < known:
        return "holds no amounts"
    if role == "status" and statuses(sample, status_values).count() * 2 < known:
        return "holds words that say neither approved, blocked nor declined"
    if role in {"label", "chargeback"} and flags(sample).count() < known:
        return "holds other values than yes and no"
    return ""


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def numbers(column: pl.Series) -> pl.Series:
    """Float64; currency signs and thousands separators are taken off, what is no number becomes null."""
    if column.dtype == pl.String:
        column = column.str.replace_all(r"[^0-9.eE+-]", "")
    return column.cast(pl.Float64, strict=False)


def statuses(column: pl.Series, status_values: Mapping[str, str]) -> pl.Series:
    """approved, blocked, declined, or null. `status_values`: a value of the file → one of these; goes first."""
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase().str.replace_all(r"[ -]+", "_")
    named = {re.sub(r"[ -]+", "_", value.strip().lower()): status for value, status in status_values.items()}
    result = text.replace_strict(named, default=None, return_dtype=pl.String)
    for status, pattern in _STATUS_WORDS.items():
        hits = text.str.contains(f"^({pattern})$").fill_null(value=False)
        result = result.zip_with(result.is_not_null() | ~hits, pl.Series([status]).new_from_index(0, len(text)))
    return result


def flags(column: pl.Series) -> pl.Series:
    """Boolean; null where the value is neither yes nor no."""
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_float():
        column = column.cast(pl.Int64, strict=False)
    text = column.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase().str.strip_suffix(".0")
    known = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
    return text.replace_strict(known, default=None, return_dtype=pl.Boolean)


# A number this large counts nano-, micro- or milliseconds since 1970; a smaller one seconds.
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%Y%m%d%H%M%S",
)


def times(column: pl.Series) -> pl.Series:
    """Epoch seconds (Float64); times without a zone are UTC, what is no time becomes null."""
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    if column.dtype == pl.String:
        text = column.str.strip_chars().str.replace(r"[zZ]$", "+00:00").str.replace(r" UTC$", "+00:00")
        best = max((_parsed(text, form) for form in _TIME_FORMATS), key=lambda parsed: parsed.count())
        if best.count() * 2 > text.count():
            return best
        days = text.str.to_date("%Y-%m-%d", strict=False)
        if days.count() * 2 > text.count():
            return times(days)
    values = column.cast(pl.Float64, strict=False)
    typical = values.median()
    scale = next((unit for least, unit in _EPOCH_UNITS if isinstance(typical, float) and typical > least), 1.0)
    return values / scale


def _parsed(text: pl.Series, form: str) -> pl.Series:
    zoned = form.endswith("z")
    parsed = text.str.to_datetime(form, time_unit="us", strict=False, **({"time_zone": "UTC"} if zoned else {}))  # type: ignore[arg-type]  # one keyword
    return parsed.dt.epoch("us").cast(pl.Float64) / 1e6
