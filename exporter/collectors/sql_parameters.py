"""`:name` in a query, the same for all drivers, to the placeholders that each driver binds values to.

Strings, quoted names, comments and `::` casts are left alone, and so is every name that has no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

from exporter.collectors.sql_session import Driver, Statement, Value

_PLACEHOLDER = r"::|(?<![:\w]):(?P<name>[A-Za-z_]\w*)"
_BLOCK_COMMENT = r"/\*.*?\*/"
_PLAIN_QUOTES = r"'[^']*'|\"[^\"]*\""  # a doubled quote inside makes two of them in a row
_POSTGRESQL = rf"[Ee]'(?:[^'\\]|\\.|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|{_PLAIN_QUOTES}|--[^\n]*|{_BLOCK_COMMENT}"
_MYSQL = rf"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--(?=\s)[^\n]*|#[^\n]*|{_BLOCK_COMMENT}"
_SQLITE = rf"{_PLAIN_QUOTES}|`[^`]*`|\[[^\]]*\]|--[^\n]*|{_BLOCK_COMMENT}"
_SYNTAX: Mapping[Driver, str] = {
    "postgresql": _POSTGRESQL,
    "duckdb": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _SQLITE,
}


def placeholders(query: str, driver: Driver) -> set[str]:
    """Every `:name` in a query."""
    return {match["name"] for match in _tokens(driver).finditer(query) if match["name"]}


def numbered(statement: Statement, driver: Driver = "postgresql") -> tuple[str, list[Value]]:
    """With `$1`, `$2`, …, and the values in that order."""
    names: list[str] = []

    def number(name: str) -> str:
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    query = _replaced(statement, driver, number)
    return query, [statement.parameters[name] for name in names]


def dollar_named(statement: Statement) -> tuple[str, dict[str, Value]]:
    """With `$name`, as DuckDB writes them, and the values that the query uses."""
    used: dict[str, Value] = {}

    def name_it(name: str) -> str:
        used[name] = statement.parameters[name]
        return f"${name}"

    return _replaced(statement, "duckdb", name_it), used


def percent_named(statement: Statement) -> tuple[str, dict[str, Value] | None]:
    """With `%(name)s` as PyMySQL writes them; without parameters the query as it is."""
    if not statement.parameters:
        return statement.query, None
    query = _replaced(statement, "mysql", lambda name: f"%({name})s", plain=lambda text: text.replace("%", "%%"))
    return query, dict(statement.parameters)


def time_value(template: Value, driver: Driver, now: datetime, window: float | None) -> Value:
    """A parameter's value: `{time_to}` is `now`, `{time_from}` is `window` seconds before, in whole seconds of UTC.

    PostgreSQL and DuckDB take a time with its zone, MySQL and SQLite the text that their own functions write.
    """
    times = {"{time_to}": now, "{time_from}": now - timedelta(seconds=window or 0)}
    time = times.get(template) if isinstance(template, str) else None
    if time is None:
        return template
    time = time.astimezone(UTC).replace(microsecond=0)
    return time if driver in ("postgresql", "duckdb") else time.strftime("%Y-%m-%d %H:%M:%S")


def _tokens(driver: Driver) -> re.Pattern[str]:
    return re.compile(f"{_SYNTAX[driver]}|{_PLACEHOLDER}", re.DOTALL)


def _replaced(
    statement: Statement, driver: Driver, placeholder: Callable[[str], str], plain: Callable[[str], str] = str
) -> str:
    known: Collection[str] = statement.parameters.keys()
    parts, end = [], 0
    for match in _tokens(driver).finditer(statement.query):
        if match["name"] in known:
            parts += [plain(statement.query[end : match.start()]), placeholder(match["name"])]
            end = match.end()
    return "".join([*parts, plain(statement.query[end:])])
