"""The trigger log of one account and alert type, read by the column.

A row of its own for each trigger costs the driver more than all that is then done with it. So the database joins each
column of some thousand triggers to one text, from the latest to the earliest, between two deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain, islice, repeat, starmap
from operator import le
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic_core import from_json

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


def read_triggers(connection: sa.Connection, wanted: Wanted, begun: Mapping[str, datetime]) -> Triggers:
    """One more than the limit; before `since` only of conditions in `begun`."""
    c = alert_trigger_log.c
    first = min(begun.values(), default=wanted.since)
    early = sa.and_(c.created_at >= first, c.condition_fingerprint.in_(sorted(begun)))
    account = (c.account_id == wanted.account_id, c.created_at >= first)
    ours = (
        *account,
        c.alert_type == wanted.alert_type,
        c.outcome != Outcome.REJECTED.value,
        sa.or_(c.created_at >= wanted.since, early) if begun else sa.true(),
    )
    columns = _Columns()
    parts = _parts(connection, account, ours, labels=wanted.labels)
    with ThreadPoolExecutor(1) as ahead:  # the database works on the next part meanwhile
        waiting = ahead.submit(next, parts, None)
        while columns.number <= wanted.limit and (part := waiting.result()) is not None:
            waiting = ahead.submit(next, parts, None)
            columns.add(*part)
            wanted.check()
    found = columns.triggers()
    found.drop_first(max(0, len(found) - wanted.limit - 1))
    return found


_Where = Sequence[sa.ColumnElement[bool]]
_Part = tuple[Sequence[str | None], Sequence[Any]]


def _parts(connection: sa.Connection, account: _Where, ours: _Where, *, labels: bool) -> Iterator[_Part]:
    """The texts of `_cells`, and what the thresholds of the reports among them say."""
    c = alert_trigger_log.c
    cells = sa.select(*_cells(connection.dialect.name, labels=labels)).where(*ours)
    reports = sa.select(c.created_at, c.position, c.fingerprint, c.verdict).where(*ours, c.source == REPORTS)
    for span in _spans(connection, account):
        texts = connection.execute(cells.where(*span)).one()
        reported = any(f'"{REPORTS}"' in text for text in texts[_SOURCE : _SOURCE + 1] if text)
        yield tuple(texts), connection.execute(reports.where(*span)).all() if reported else ()


def _spans(connection: sa.Connection, account: _Where) -> Iterator[_Where]:
    """Of time, from the last to the first; none of them parts a delivery."""
    at = alert_trigger_log.c.created_at
    rest: _Where = ()
    begins = sa.select(at).where(*account).order_by(at.desc()).offset(_AT_ONCE).limit(1)
    while (begin := connection.scalar(begins.where(*rest))) is not None:
        yield (*rest, at >= begin)
        rest = (at < begin,)
    yield rest


_NAMES = ("fingerprint", "starts_at", "condition_fingerprint", "alert_id")
_KINDS = ("status", "source", "severity", "outcome", "notify")
_READINGS = ("metrics_data", "labels")
_SOURCE = 8
_ARBITRARY = ("alert_name", "fingerprint")  # what may have any character in it
_BETWEEN = "\x1f"  # which JSON has not


def _cells(dialect: str, *, labels: bool) -> list[sa.ColumnElement[str]]:
    """Each column as one text for `_cells_of`, in the order that `_Columns.add` knows."""
    names = ("created_at", "position", "alert_name", *_NAMES, *_KINDS, *(_READINGS if labels else _READINGS[:1]))
    columns = [alert_trigger_log.c[name] for name in names]
    if dialect == "sqlite":
        return [sa.func.json_group_array(sa.type_coerce(column, sa.types.NullType())) for column in columns]
    return [_joined(column) for column in columns]


def _joined(column: sa.Column[Any]) -> sa.ColumnElement[str]:
    """By PostgreSQL, which makes JSON of texts more slowly."""
    text = sa.cast(column, sa.Text)
    if column.name in _ARBITRARY:
        return sa.cast(sa.func.json_agg(text), sa.Text)
    if column.name in _READINGS:
        return sa.func.aggregate_strings(text, _BETWEEN)
    filled = sa.func.coalesce(text, "") if column.nullable else text
    return '["' + sa.func.aggregate_strings(filled, '","') + '"]'


def _cells_of(text: str) -> list[Any]:
    found: list[Any] = from_json(text) if text.startswith("[") else text.split(_BETWEEN)
    return found


class _Kind(NamedTuple):
    kind: int
    rank: int  # of the severity
    said: Said
    reported: bool


class _Columns:
    """Texts as columns of `Triggers`: what is the same is made once, as nearly all of it is."""

    def __init__(self) -> None:
        self._times = _Times()
        self._kinds, self._names, self._readings = _Numbered(), _Numbered(), _Numbered()
        self._alert_names: list[str] = []  # by the number of the name
        self._parts: list[Sequence[list[Any]]] = []
        self._own: dict[tuple[datetime, int, str], Verdict] = {}
        self.number = 0

    def add(self, texts: Sequence[str | None], reports: Iterable[Any]) -> None:
        """Those before the ones that are there; `reports` with their times, positions, fingerprints and verdicts."""
        at, position, alert_name, *rest = [_cells_of(text or "[]") for text in texts]
        self._own.update(((time, place, name), _own(verdict)) for time, place, name, verdict in reports)
        times = list(map(self._times.__getitem__, at))
        names, kinds, readings = rest[:4], rest[4:9], rest[9:]
        part: list[list[Any]] = [
            times,
            self._named(list(zip(*names, strict=True)), alert_name),
            list(map(self._kinds.__getitem__, zip(*kinds, strict=True))),
            list(map(self._readings.__getitem__, zip(*readings, strict=True))),
            list(map(int, position)),
        ]
        order = list(zip(times, part[-1], strict=True))
        if not all(map(le, order, islice(order, 1, None))):
            places = sorted(range(len(order)), key=order.__getitem__)
            part = [list(map(column.__getitem__, places)) for column in part]
        self._parts.append(part)
        self.number += len(order)

    def _named(self, names: Sequence[tuple[str, ...]], alert_names: Sequence[str]) -> list[int]:
        known = len(self._names)
        numbers = list(map(self._names.__getitem__, names))
        if len(self._names) > known:
            first = dict(zip(reversed(numbers), reversed(alert_names), strict=True))
            self._alert_names += [first[number] for number in range(known, len(self._names))]
        return numbers

    def triggers(self) -> Triggers:
        """From the first to the last."""
        if not self.number:
            return Triggers()
        columns = zip(*reversed(self._parts), strict=True)
        at, name_of, kind_of, reading_of, positions = (list(chain.from_iterable(column)) for column in columns)
        kinds, ranks, said, reported = zip(*starmap(_kind, self._kinds), strict=True)
        alert_ids = [str(UUID(alert_id)) if alert_id else None for *_, alert_id in self._names]
        names = [
            Name(condition, (key, self._times[start]), name)
            for (key, start, condition, _), name in zip(self._names, self._alert_names, strict=True)
        ]
        own = {
            place: self._own[at[place], positions[place], names[name_of[place]].key[0]]
            for place, kind in enumerate(kind_of if any(reported) else ())
            if reported[kind]
        }
        return Triggers(
            at,
            name_of,
            list(map(kinds.__getitem__, kind_of)),
            list(map(ranks.__getitem__, kind_of)),
            reading_of,
            kind_of,
            list(map(alert_ids.__getitem__, name_of)),
            own,
            names,
            _read(self._readings),
            list(said),
        )


class _Numbered(dict[tuple[str, ...], int]):
    """Numbers in order; what is new gets the next one."""

    def __missing__(self, cells: tuple[str, ...]) -> int:
        number = self[cells] = len(self)
        return number


def _read(texts: Iterable[tuple[str, ...]]) -> list[Reading]:
    """All in one text: reading them one by one takes three times as long."""
    documents = [from_json(f"[{','.join(column)}]") for column in zip(*texts, strict=True)]
    return list(zip(*documents, *([repeat(_NO_LABELS)] if len(documents) == 1 else [])))  # noqa: B905 - endless


_NO_LABELS: Mapping[str, str] = {}


def _kind(status: str, source: str, severity: str, outcome: str, notify: str) -> _Kind:
    kind = FIRING if status == TriggerStatus.FIRING else SWEPT if source == _SWEEP else RESOLVED
    return _Kind(kind, Severity(severity).rank, Said(outcome, notify), source == REPORTS and kind == FIRING)


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
