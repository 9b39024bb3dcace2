"""Rows of JSON and NDJSON files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jmespath
import polars as pl

from exporter.collectors.base import Collection, within_max_rows
from exporter.collectors.file_columns import at_path
from exporter.collectors.file_config import FileSourceConfig
from exporter.collectors.file_content import excerpt, not_utf8, text_of
from exporter.collectors.json_rows import columns_of
from exporter.errors import BadAnswer

_LINES_BETWEEN_CHECKS = 1000
_KEYS_SHOWN = 10
_KINDS = {list: "a list", type(None): "null", bool: "true or false", int: "a number", float: "a number"}


def json_frame(body: bytes, place: str, config: FileSourceConfig, collection: Collection) -> pl.DataFrame:
    """One JSON document. Its rows are what `rows` finds, by default the list that it is, or else the one at `data`."""
    body = text_of(body, place)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"{place} is no JSON: {_fault(body, error)}. {excerpt(body, collection.secrets)}") from None
    path = config.rows or ("data" if isinstance(document, dict) else "@")
    rows = _rows_at(document, path, place)
    rows = rows[: within_max_rows(config, len(rows), collection)]
    return columns_of(rows, config.columns, config.values, None, collection)


def _rows_at(document: object, path: str, place: str) -> list[dict[str, Any]]:
    """The objects that the expression finds; BadAnswer where it finds something else."""
    try:
        found = jmespath.search(path, document)
    except jmespath.exceptions.JMESPathError as error:
        raise BadAnswer(f"{place}: rows `{path}` cannot be read from it: {error}") from None
    if not isinstance(found, list):
        raise BadAnswer(f"{place}: rows `{path}` is {_kind(found)}, not a list; the file is {_kind(document)}")
    for position, row in enumerate(found):
        if not isinstance(row, dict):
            raise BadAnswer(f"{place}: rows `{path}`[{position}] is {_kind(row)}, not an object")
    return found


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(list(value)[:_KEYS_SHOWN]) or 'no keys'}"
    return _KINDS.get(type(value), "text")


def ndjson_frame(body: bytes, place: str, config: FileSourceConfig, collection: Collection) -> pl.DataFrame:
    """A JSON object per line. A file without lines has no rows."""
    body = text_of(body, place)
    frame = _at_once(body, config, collection)
    if frame is None:
        rows = _line_by_line(body, place, config, collection)
        return columns_of(rows, config.columns, config.values, None, collection)
    frame = frame.head(within_max_rows(config, len(frame), collection))
    return frame.drop([name for name in frame.columns if _absent(frame[name], body)])


def _at_once(body: bytes, config: FileSourceConfig, collection: Collection) -> pl.DataFrame | None:
    """The wanted columns as text, read by Polars; None where it cannot, for it is fast but strict.

    It takes no NaN, for example, and does not say which line is wrong. A column that is in no line is all null.
    """
    try:
        first = json.loads(next(line for line in io.BytesIO(body) if line.strip()))
    except (StopIteration, ValueError, RecursionError):
        return None
    schema = _schema(first, config.columns) if isinstance(first, dict) else None
    if schema is None:
        return None
    try:
        frame = pl.read_ndjson(body, schema=schema, n_rows=config.max_rows + 1)
    except pl.exceptions.PolarsError:
        return None
    columns_of([first], (), (), None, collection)  # tells the names of the fields
    return frame.select(at_path(frame.schema, name) for name in config.columns)


def _schema(first: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, pl.DataType] | None:
    """Text for each wanted column, within objects where its name is a path; None where a path leads through another."""
    tree: dict[str, Any] = {}
    for name in wanted:
        *parents, leaf = [name] if name in first else name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                return None
        if leaf in branch:
            return None
        branch[leaf] = pl.String()
    return {name: _type(inner) for name, inner in tree.items()}


def _type(inner: dict[str, Any] | pl.DataType) -> pl.DataType:
    if isinstance(inner, dict):
        return pl.Struct({name: _type(part) for name, part in inner.items()})
    return inner


def _absent(column: pl.Series, body: bytes) -> bool:
    """Whether no line has the field. Looks for its name in the text where no line has a value of it."""
    if column.null_count() < len(column):
        return False
    names = column.name, column.name.rpartition(".")[2]
    return not any(
        json.dumps(name, ensure_ascii=ascii_only).encode() in body for name in names for ascii_only in (True, False)
    )


def _line_by_line(body: bytes, place: str, config: FileSourceConfig, collection: Collection) -> list[dict[str, Any]]:
    """Every line's object; BadAnswer names the first line that is none."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(io.BytesIO(body), start=1):
        if number % _LINES_BETWEEN_CHECKS == 0:
            collection.remaining()
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"line {number} is no JSON: {_fault(line, error, one_line=True)}"
            raise BadAnswer(f"{place}: {what}. {excerpt(line, collection.secrets)}") from None
        if not isinstance(row, dict):
            raise BadAnswer(f"{place}: line {number} is no JSON object. {excerpt(line, collection.secrets)}")
        rows.append(row)
        if len(rows) > config.max_rows:
            break
    return rows[: within_max_rows(config, len(rows), collection)]


def _fault(body: bytes, error: Exception, *, one_line: bool = False) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at " + ("" if one_line else f"line {error.lineno}, ") + f"column {error.colno}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if one_line and isinstance(error, UnicodeDecodeError):
        return f"byte 0x{body[error.start]:02x} is no UTF-8 text"
    return not_utf8(body) or str(error)
