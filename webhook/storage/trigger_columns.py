"""The trigger log of one account and alert type, read by the column.

A row of its own for each trigger costs the driver more than all that is then done with it. So the database joins each
column of some thousand triggers to one text, from one delivery to another, while those before are being decided.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import reduce
from itertools import islice, zip_longest
from operator import le
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy.dialects.postgresql import array

from webhook.domain.alert import Outcome, TriggerStatus
from webhook.domain.evaluation import Verdict
from webhook.domain.past import Wanted
from webhook.domain.report import SOURCE as REPORTS
from webhook.domain.severity import Severity
from webhook.domain.triggers import FIRING, RESOLVED, SWEPT, Name, Reading, Said, Triggers
from webhook.storage.tables import alert_trigger_log

_SWEEP = "sweep"
_AT_ONCE = 10_000
"""Triggers of the account; what is done with them holds other threads up."""

Where = Sequence[sa.ColumnElement[bool]]


class TriggerLog:
    """What is wanted of it, in one transaction; before `since` only of conditions in `begun`.

    `since` is later than wanted where there are more triggers than the limit.
    """

    def __init__(self, connection: sa.Connection, wanted: Wanted, begun: Mapping[str, datetime]) -> None:
        self._connection, self._check = connection, wanted.check
        self._readings = _Readings(connection.dialect.name, wanted.names)
        c = alert_trigger_log.c
        first = min(begun.values(), default=wanted.since)
        early = sa.and_(c.created_at >= first, c.condition_fingerprint.in_(sorted(begun)))
        self._account: Where = (c.account_id == wanted.account_id, c.created_at >= first)
        self.where: Where = (
            *self._account,
            c.alert_type == wanted.alert_type,
            c.outcome != Outcome.REJECTED.value,
            sa.or_(c.created_at >= wanted.since, early) if begun else sa.true(),
        )
        self._spans = list(_spans(connection, self._account))
        self.since = wanted.since
        if len(self._spans) * _AT_ONCE > wanted.limit:
            self._keep(wanted.limit)

    def _keep(self, most: int) -> None:
        """The last ones, from a delivery on."""
        at = alert_trigger_log.c.created_at
        query = sa.select(at).where(*self.where).order_by(at.desc()).offset(most).limit(1)
        if (over := self._connection.scalar(query)) is None:
            return
        later = at > over
        self._account, self.where = (*self._account, later), (*self.where, later)
        self._spans = list(_spans(self._connection, self._account))
        self.since = max(self.since, self._connection.scalar(sa.select(sa.func.min(at)).where(*self.where)) or over)

    def read(self, rows: Triggers) -> Generator[None, None, None]:
        """Add what there is to `rows`, in the order in which it came; at each step whole deliveries."""
        columns, parts = _Columns(rows, self._readings), self._parts()
        with ThreadPoolExecutor(1) as ahead:  # the database works on the next part meanwhile
            waiting = ahead.submit(next, parts, None)
            try:
                while (part := waiting.result()) is not None:
                    waiting = ahead.submit(next, parts, None)
                    columns.add(*part)
                    self._check()
                    yield
            finally:
                while not waiting.done():  # nobody waits for it any more; it may be about to begin
                    self._break_off()
                    wait([waiting], timeout=0.2)

    def _break_off(self) -> None:
        """The statement that runs."""
        driver = self._connection.connection.driver_connection
        if driver is not None:
            (driver.interrupt if self._connection.dialect.name == "sqlite" else driver.cancel)()

    def _parts(self) -> Iterator[tuple[Sequence[str | None], Sequence[Any]]]:
        """The texts of `_cells`, and what the thresholds of the reports among them say."""
        c = alert_trigger_log.c
        cells = sa.select(*_cells(self._connection.dialect.name, self._readings.cell())).where(*self.where)
        reports = sa.select(c.created_at, c.position, c.fingerprint, c.verdict).where(*self.where, c.source == REPORTS)
        for span in reversed(self._spans):
            texts = self._connection.execute(cells.where(*span)).one()
            reported = f'"{REPORTS}"' in (texts[_KINDS] or "")
            yield tuple(texts), self._connection.execute(reports.where(*span)).all() if reported else ()


def _spans(connection: sa.Connection, account: Where) -> Iterator[Where]:
    """Of time, from the last to the first; none of them parts a delivery."""
    at = alert_trigger_log.c.created_at
    rest: Where = ()
    begins = sa.select(at).where(*account).order_by(at.desc()).offset(_AT_ONCE).limit(1)
    while (begin := connection.scalar(begins.where(*rest))) is not None:
        yield (*rest, at >= begin)
        rest = (at < begin,)
    yield rest


_NAME = ("fingerprint", "starts_at", "condition_fingerprint", "alert_id", "alert_name")
_KIND = ("status", "source", "severity", "outcome", "notify", "position")
_KINDS = 2
_BETWEEN = "\x1f"  # which JSON has not


def _cells(dialect: str, reading: sa.ColumnElement[str]) -> list[sa.ColumnElement[str]]:
    """One text each for `_Columns.add`: times, names, kinds, readings."""
    c = alert_trigger_log.c
    text = _text_of(dialect)
    name, kind = ([text(c[one]) for one in of] for of in (_NAME, _KIND))
    lists: tuple[sa.ColumnElement[str], ...]
    if dialect == "sqlite":
        lists = sa.func.json_array(*name), sa.func.json_array(*kind)
    else:  # kinds are words and numbers of ours: nothing to escape
        lists = sa.func.to_json(array(name)), sa.literal('["') + sa.func.concat_ws('","', *kind) + '"]'
    cells = (text(c.created_at), *map(text, lists), reading)
    return [sa.func.aggregate_strings(cell, _BETWEEN) for cell in cells]


def _text_of(dialect: str) -> Any:  # noqa: ANN401 - a function of a column
    """As it is stored, or as the database writes it."""
    convert = sa.type_coerce if dialect == "sqlite" else sa.cast
    return lambda column: convert(column, sa.Text)


def _joined(texts: Sequence[Any]) -> Any:  # noqa: ANN401 - a column
    return reduce(lambda before, text: before + "," + text, texts)


class _Readings:
    """What conditions are judged by, as JSON: what they name among the metrics, else among the labels."""

    def __init__(self, dialect: str, names: Sequence[str]) -> None:
        self._text = _text_of(dialect)
        self._names = list(names) if all(map(_PLAIN.fullmatch, names)) else None  # else all there is
        self._found = self._at_once if dialect == "sqlite" else self._one_by_one

    def cell(self) -> Any:  # noqa: ANN401 - a column
        c = alert_trigger_log.c
        if self._names is None:
            return sa.literal("[") + _joined([self._text(c.metrics_data), self._text(c.labels)]) + "]"
        return sa.literal("[") + self._found(self._names) + "]" if self._names else sa.literal("[[]]")

    def _at_once(self, names: list[str]) -> Any:  # noqa: ANN401 - a column
        """Two lists, the labels where a metric is missing: SQLite takes a document apart for each question."""
        paths = [f"$.{name}" for name in (names if len(names) > 1 else names * 2)]  # of one path it makes no list
        c = alert_trigger_log.c
        metrics, labels = (self._text(sa.func.json_extract(column, *paths)) for column in (c.metrics_data, c.labels))
        return sa.case((sa.func.instr(metrics, _MISSING) > 0, _joined([metrics, labels])), else_=metrics)

    def _one_by_one(self, names: list[str]) -> Any:  # noqa: ANN401 - a column
        c = alert_trigger_log.c
        values = [sa.func.coalesce(self._in(c.metrics_data, n), self._in(c.labels, n), _MISSING) for n in names]
        return sa.literal("[") + _joined(values) + "]"

    def _in(self, document: sa.Column[Any], name: str) -> Any:  # noqa: ANN401 - a column
        return self._text(document.op("->", return_type=document.type)(name))

    def read(self, texts: Iterable[str]) -> list[Reading]:
        """All in one text: reading them one by one takes three times as long."""
        text = f"[{','.join(texts)}]"
        found, names = from_json(text), self._names
        if names is None:
            return [(metrics, labels) for metrics, labels in found]
        if '"' in text or _MISSING in text:
            return [_parted(names, *lists) for lists in found]
        return [(dict(zip(names, metrics)), _NO_LABELS) for (metrics,) in found]  # noqa: B905 - one is said twice


def _parted(names: Sequence[str], values: Sequence[Any], otherwise: Sequence[Any] = ()) -> Reading:
    """Metrics are numbers, labels texts."""
    metrics, labels = {}, {}
    for name, value, other in zip_longest(names, values, otherwise):
        found = other if value is None else value
        if isinstance(found, str):
            labels[name] = found
        elif found is not None:
            metrics[name] = found
    return metrics, labels


_MISSING = "null"
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # whose way within a document each database takes alike
_NO_LABELS: Mapping[str, str] = {}


class _Kind(NamedTuple):
    kind: int
    rank: int  # of the severity
    said: Said
    reported: bool
    position: int


class _Columns:
    """Texts as columns of `Triggers`: what is the same is made once, as nearly all of it is."""

    def __init__(self, rows: Triggers, readings: _Readings) -> None:
        self._rows, self._reader = rows, readings
        self._times = _Times()
        self._names, self._kinds, self._readings = _Numbered(), _Numbered(), _Numbered()
        self._said: dict[Said, int] = {}
        self._made: list[tuple[_Kind, int]] = []  # with the number of what was said
        self._alert_ids: list[str | None] = []  # by the number of the name

    def add(self, texts: Sequence[str | None], reports: Iterable[Any]) -> None:
        """Those after the ones that are there; `reports` with their times, positions, fingerprints and verdicts."""
        at, name, kind, reading = (text.split(_BETWEEN) if text else [] for text in texts)
        names, readings = len(self._names), len(self._readings)
        columns = [
            list(map(numbered.__getitem__, column))
            for numbered, column in zip(self._numbered, (at, name, kind, reading), strict=True)
        ]
        self._name(islice(self._names, names, None))
        self._made += map(self._kind, islice(self._kinds, len(self._made), None))
        self._rows.readings += self._reader.read(islice(self._readings, readings, None))
        self._rows.said = list(self._said)
        self._extend(_in_order(columns, [kind.position for kind, _ in self._made]), reports)

    @property
    def _numbered(self) -> tuple[Mapping[str, Any], ...]:
        return self._times, self._names, self._kinds, self._readings

    def _name(self, texts: Iterable[str]) -> None:
        for key, start, condition, alert_id, name in from_json(f"[{','.join(texts)}]"):
            self._rows.names.append(Name(condition, (key, self._times[start]), name))
            self._alert_ids.append(str(UUID(alert_id)) if alert_id else None)

    def _kind(self, text: str) -> tuple[_Kind, int]:
        kind = _kind(text)
        return kind, self._said.setdefault(kind.said, len(self._said))

    def _extend(self, columns: Sequence[list[Any]], reports: Iterable[Any]) -> None:
        rows, before = self._rows, len(self._rows)
        at, name_of, kind_of, reading_of = columns
        kinds, said = [kind for kind, _ in self._made], [said for _, said in self._made]
        rows.at += at
        rows.name_of += name_of
        rows.reading_of += reading_of
        rows.kinds += map([kind.kind for kind in kinds].__getitem__, kind_of)
        rows.ranks += map([kind.rank for kind in kinds].__getitem__, kind_of)
        rows.said_of += map(said.__getitem__, kind_of)
        rows.alert_ids += map(self._alert_ids.__getitem__, name_of)
        told = {(time, position, name): _own(verdict) for time, position, name, verdict in reports}
        for place, number in enumerate(kind_of if told else ()):
            if kinds[number].reported:
                name = rows.names[name_of[place]].key[0]
                rows.own[before + place] = told[at[place], kinds[number].position, name]


def _in_order(columns: list[list[Any]], positions: Sequence[int]) -> list[list[Any]]:
    """By time, and by the position that their kind has."""
    at, _, kind_of, _ = columns
    order = list(zip(at, map(positions.__getitem__, kind_of), strict=True))
    if all(map(le, order, islice(order, 1, None))):
        return columns
    places = sorted(range(len(order)), key=order.__getitem__)
    return [list(map(column.__getitem__, places)) for column in columns]


class _Numbered(dict[str, int]):
    """Numbers in order; what is new gets the next one."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


def _kind(text: str) -> _Kind:
    status, source, severity, outcome, notify, position = from_json(text)
    kind = FIRING if status == TriggerStatus.FIRING else SWEPT if source == _SWEEP else RESOLVED
    reported = source == REPORTS and kind == FIRING
    return _Kind(kind, Severity(severity).rank, Said(outcome, notify), reported, int(position))


class _Times(dict[str, datetime]):
    """By text: the same object for the same time."""

    def __missing__(self, text: str) -> datetime:
        """As the database writes it, in UTC."""
        time = datetime.fromisoformat(text)
        made = self[text] = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return made


def _own(verdict: Mapping[str, Any]) -> Verdict:
    """What the thresholds of a report said, whatever its merchant's did."""
    own = verdict.get("own", verdict)
    return Verdict(own.get("passed", True), own.get("reason", ""))
