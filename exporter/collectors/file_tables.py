"""Rows of CSV and Parquet files, as Polars reads them: only the columns that metrics need."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import polars as pl

from exporter.collectors.base import Collection, within_max_rows
from exporter.collectors.file_columns import at_path, field_names
from exporter.collectors.file_config import CsvConfig, FileSourceConfig
from exporter.collectors.file_content import excerpt, not_utf8, text_of, within_max_bytes
from exporter.errors import BadAnswer

_PARQUET = b"PAR1"
_LAST = "\0last"  # a column that no file has


def csv_frame(body: bytes, place: str, config: FileSourceConfig, collection: Collection) -> pl.DataFrame:
    """Every column is text as the file has it: `007` stays `007`. An empty value is null, unless it is quoted."""
    style = config.csv or CsvConfig()
    body = text_of(body, place).lstrip(b"\r\n")
    if style.quote and body.count(style.quote.encode()) % 2:  # Polars would leave out the rows from there on
        raise BadAnswer(f"{place} cannot be read as CSV: {_csv_fault(body, style) or 'a quote is not closed'}")
    try:
        names = _names(body, style, place)
        frame = _wanted(body, style, names, config)
        filled = _filled(body, style, frame, len(names)) if frame.columns else None
    except pl.exceptions.NoDataError:
        raise BadAnswer(f"{place} is empty") from None
    except pl.exceptions.PolarsError as error:
        raise BadAnswer(f"{place} cannot be read as CSV: {_csv_fault(body, style) or _first_line(error)}") from None
    collection.fields = names
    frame = frame.head(within_max_rows(config, len(frame), collection))
    if filled is None:
        return frame
    if (frame[_LAST].is_null() & filled.head(len(frame))).any():
        _warn_of_short_lines(body, style, len(names), collection)
    return frame.drop(_LAST).filter(filled.head(len(frame)))


def _wanted(body: bytes, style: CsvConfig, names: Sequence[str], config: FileSourceConfig) -> pl.DataFrame:
    """The columns that metrics read, of those whose names are not repeated.

    One column more than there are takes what is too much in a line. Polars looks for that only when it reads all
    columns, and a value with a delimiter that should have been quoted has moved all after it.
    """
    numbers = {name: names.index(name) for name in config.columns if names.count(name) == 1}
    scan = _scanned(body, style, rows=config.max_rows + 1 + style.header, width=len(names) + 1).slice(int(style.header))
    columns = [pl.nth(number).alias(f"={name}") for name, number in numbers.items()]
    last = pl.nth(len(names) - 1).alias("last")
    frame = scan.select(*columns, last, pl.nth(len(names)).alias("more")).collect()
    if frame["more"].null_count() < len(frame):
        raise pl.exceptions.ComputeError("a line has more fields than the first one")
    if not numbers:
        return pl.DataFrame()
    return frame.select(*(pl.col(f"={name}").alias(name) for name in numbers), pl.col("last").alias(_LAST))


def _filled(body: bytes, style: CsvConfig, frame: pl.DataFrame, width: int) -> pl.Series:
    """Rows that are no blank lines; all columns are read for it only where those that metrics read are all null."""
    empty = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if not empty.any():
        return ~empty
    scan = _scanned(body, style, rows=len(frame) + style.header, width=width).slice(int(style.header))
    return ~scan.select(pl.all_horizontal(pl.all().is_null())).collect().to_series()


def _warn_of_short_lines(body: bytes, style: CsvConfig, width: int, collection: Collection) -> None:
    """Tell of lines with fewer fields than the first one, whose other values Polars takes as null."""
    text = body.decode()
    if style.quote:
        quote = re.escape(style.quote)
        text = re.sub(f"{quote}[^{quote}]*{quote}", "_", text)  # delimiters and line ends in quotes do not count
    lines = pl.Series([text]).str.split("\n").explode().str.strip_chars_end("\r")
    lines = lines.filter(lines != "")
    found = lines.str.count_matches(style.delimiter, literal=True) + 1
    short = found < width
    if short.any():
        at = int(short.arg_true()[0])
        where = f"row {at + 1 - style.header} has {found[at]} fields, and the first line {width}"
        detail = f"{where}: the others are taken as null; is the file complete?"
        collection.warn("short_row", int(short.sum()), detail)


def parquet_frame(body: bytes, place: str, config: FileSourceConfig, collection: Collection) -> pl.DataFrame:
    """Columns of the file's own types. The decoded columns may be no larger than `max_bytes` either."""
    if not body.startswith(_PARQUET):
        raise BadAnswer(f"{place} is no Parquet file. {excerpt(body, collection.secrets)}")
    try:
        scan = pl.scan_parquet(io.BytesIO(body))
        schema = scan.collect_schema()
        found = {name: at_path(schema, name) for name in config.columns}
        collection.fields = tuple(field_names(schema))
        rows = within_max_rows(config, scan.select(pl.len()).collect().item(), collection)
        columns = [column for column in found.values() if column is not None]
        return _batched(scan.select(columns).head(rows), place, config, collection) if columns else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise BadAnswer(f"{place} is damaged, or no Parquet file: {_first_line(error)}") from None


def _batched(scan: pl.LazyFrame, place: str, config: FileSourceConfig, collection: Collection) -> pl.DataFrame:
    """The scan's rows, decoded a part at a time, for a small file may become a huge table."""
    batches, size = [scan.head(0).collect()], 0
    for batch in scan.collect_batches(maintain_order=True):
        size += int(batch.estimated_size())
        within_max_bytes(size, config.max_bytes, f"{place}, decoded,")
        collection.remaining()
        batches.append(batch)
    return pl.DataFrame([_text_if_it_is(column) for column in pl.concat(batches)])


def _text_if_it_is(column: pl.Series) -> pl.Series:
    """Text that its writer did not mark as text, as some do, becomes text."""
    if column.dtype != pl.Binary:
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        return column


def _names(body: bytes, style: CsvConfig, place: str) -> list[str]:
    """Names of all columns, in the order of the file."""
    first = _scanned(body, style, rows=1).collect().row(0)
    if style.header:
        return [name or "" for name in first]
    if style.columns and len(style.columns) != len(first):
        raise BadAnswer(
            f"{place} has {len(first)} columns, and csv.columns names {len(style.columns)}: make them agree"
        )
    return list(style.columns) or [f"column_{number}" for number in range(1, len(first) + 1)]


def _scanned(body: bytes, style: CsvConfig, *, rows: int, width: int | None = None) -> pl.LazyFrame:
    """The first rows, the header among them: names in it may be repeated, which Polars would hide.

    `width` columns, those null that the file does not have, or as many as the first rows have.
    """
    return pl.scan_csv(
        io.BytesIO(body),
        has_header=False,
        schema=None if width is None else {str(number): pl.String for number in range(width)},
        missing_columns="insert" if width else None,
        separator=style.delimiter,
        quote_char=style.quote or None,
        infer_schema=False,
        n_rows=rows,
    )


def _csv_fault(body: bytes, style: CsvConfig) -> str | None:
    """What is wrong, with its line, which Polars does not tell; None if nothing is found."""
    if fault := not_utf8(body):
        return fault
    text = io.StringIO(body.decode(), newline="")
    if not style.quote:
        return None
    lines = csv.reader(text, delimiter=style.delimiter, quotechar=style.quote, strict=True)
    try:
        width = len(next(lines, ()))
        for fields in lines:
            if len(fields) > width:
                what = f"line {lines.line_num} has {len(fields)} fields, and the first line {width}"
                return f"{what}: quote values that contain the delimiter {style.delimiter!r}"
    except csv.Error as error:
        return f"line {lines.line_num}: {error}; a quote is not closed, or not doubled within a value"
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
