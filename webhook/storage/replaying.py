"""The stored past of one account and alert type, for the replay: a few ordered passes over plain rows."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import compress, repeat
from typing import Any, NamedTuple

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotifyReason, Outcome, TriggerStatus
from webhook.domain.evaluation import Verdict
from webhook.domain.past import Attack, Past, Wanted, beginnings, known_past
from webhook.domain.report import SOURCE as REPORTS
from webhook.domain.severity import Severity
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.domain.triggers import FIRING, RESOLVED, SWEPT, Name, Reading, Said, Triggers
from webhook.storage.database import Database, allow
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification

_SWEEP = "sweep"
_FIRING = TriggerStatus.FIRING.value
_LONGEST = timedelta(seconds=20)  # for a statement: somebody waits
_AT_ONCE = 1000  # rows: what is done with them holds other threads up


@dataclass(frozen=True, slots=True)
class StoredPast:
    """What the preview reads, in one transaction that cannot write."""

    database: Database

    def read(self, wanted: Wanted) -> tuple[Past, Triggers]:
        """`Past.since` is later than wanted where there are too many triggers."""
        with read_only(self.database) as connection:
            attacks = _attacks(connection, wanted)
            begun = beginnings(attacks, wanted.since, wanted.remembered)
            readable = {condition: at for condition, at in begun.items() if at >= wanted.earliest}
            triggers = read_triggers(connection, wanted, readable)
            since = wanted.since
            if len(triggers) > wanted.limit:
                _drop_part(triggers)
                since = max(since, triggers.at[0]) if triggers.at else since
            created = _created(triggers)
            past = known_past(attacks, created, since, wanted.remembered)
            return read_past(connection, wanted, attacks, past), triggers


@contextmanager
def read_only(database: Database) -> Iterator[sa.Connection]:
    """One view of the data for all that is read in it; the database refuses to write."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            allow(connection, _LONGEST)
        yield connection


def _attacks(connection: sa.Connection, wanted: Wanted) -> list[Attack]:
    """Alerts that were not closed before `earliest`."""
    a, d = alert.c, alert_dynamic.c
    query = (
        sa.select(d.condition_fingerprint, d.first_triggered_at, d.resolved_at, d.authenticated_as)
        .select_from(alert_dynamic.join(alert, a.id == d.alert_id))
        .where(
            a.account_id == wanted.account_id,
            a.alert_type == wanted.alert_type,
            sa.or_(d.resolved_at.is_(None), d.resolved_at >= wanted.earliest),
        )
    )
    rows = connection.execute(query)
    return [Attack(condition, begun, ended, by is not None) for condition, begun, ended, by in rows]


def _drop_part(triggers: Triggers) -> None:
    """The first delivery, of which not all may have been read."""
    triggers.drop_first(bisect_right(triggers.at, triggers.at[0]))


def _created(triggers: Triggers) -> set[tuple[str, datetime]]:
    """Conditions and times of triggers that began an alert."""
    begins = [said.outcome == Outcome.CREATED for said in triggers.said]
    rows = zip(triggers.at, triggers.name_of, strict=True)
    return {
        (triggers.names[name].condition, at) for at, name in compress(rows, map(begins.__getitem__, triggers.said_of))
    }


def read_past(connection: sa.Connection, wanted: Wanted, attacks: Sequence[Attack], past: Past) -> Past:
    """With what happened beside the triggers."""
    first = min(past.starts.values(), default=past.since)
    closings = sorted(
        (attack.ended, attack.condition)
        for attack in attacks
        if attack.by_person and attack.ended is not None and attack.ended >= past.start_of(attack.condition)
    )
    sent: dict[tuple[str, datetime], datetime | None] = {}
    notified, resent = [], []
    for condition, created_at, sent_at, by_person in _messages(connection, wanted, first):
        if by_person:
            resent += [(sent_at, condition)] if sent_at is not None else []
        elif created_at < past.start_of(condition):
            notified.append(created_at)
        else:
            sent[condition, created_at] = sent_at
    return replace(
        past,
        closings=closings,
        sent=sent,
        resent=sorted(resent),
        notified=notified,
        closed=_closed(connection, wanted, past),
    )


def _messages(connection: sa.Connection, wanted: Wanted, first: datetime) -> Iterable[Any]:
    """Conditions, when it was decided to tell of them and when that went out, and whether a person asked for it."""
    n = notification.c
    by_person = n.reason == NotifyReason.RESEND.value
    query = (
        sa.select(alert.c.condition_fingerprint, n.created_at, sa.func.max(n.sent_at, type_=n.sent_at.type), by_person)
        .select_from(notification.join(alert, alert.c.id == n.alert_id))
        .where(
            n.account_id == wanted.account_id,
            n.alert_type == wanted.alert_type,
            n.created_at > first - LONGEST_WINDOW,
            n.reason.not_in((NotifyReason.RESOLVED.value, NotifyReason.MENTION.value, NotifyReason.DIGEST.value)),
        )
        .group_by(n.alert_id, alert.c.condition_fingerprint, n.created_at, by_person)
        .order_by(n.created_at)
    )
    return connection.execute(query)


def _closed(connection: sa.Connection, wanted: Wanted, past: Past) -> frozenset[tuple[str, datetime]]:
    i, d = alert_instance.c, alert_dynamic.c
    query = (
        sa.select(i.fingerprint, i.starts_at, d.condition_fingerprint, d.resolved_at)
        .select_from(alert_instance.join(alert_dynamic, d.alert_id == i.alert_id))
        .where(
            i.account_id == wanted.account_id,
            i.alert_type == wanted.alert_type,
            d.authenticated_as.is_not(None),
            d.status != AlertStatus.ACTIVE.value,
        )
    )
    rows = connection.execute(query)
    return frozenset((name, start) for name, start, condition, ended in rows if ended < past.start_of(condition))


def read_triggers(connection: sa.Connection, wanted: Wanted, begun: Mapping[str, datetime]) -> Triggers:
    """One more than the limit; before `since` only of conditions in `begun`."""
    c, name = alert_trigger_log.c, connection.dialect.name
    first = min(begun.values(), default=wanted.since)
    early = sa.and_(c.created_at >= first, c.condition_fingerprint.in_(sorted(begun)))
    ours = (
        c.account_id == wanted.account_id,
        c.alert_type == wanted.alert_type,
        c.created_at >= first,
        sa.or_(c.created_at >= wanted.since, early) if begun else sa.true(),
        c.outcome != Outcome.REJECTED.value,
    )
    order = (c.created_at.desc(), c.position.desc())
    query = sa.select(*_cells(name, labels=wanted.labels)).where(*ours).order_by(*order).limit(wanted.limit + 1)
    columns = _Columns(texts=name == "sqlite")
    cursor = connection.execute(query).cursor  # the driver's: SQLAlchemy's rows cost as much again
    while rows := cursor.fetchmany(_AT_ONCE):
        columns.add(rows)
        wanted.check()
    reported = columns.reported()
    verdicts: Iterable[Any] = ()
    if reported:
        of_reports = (
            sa.select(c.verdict)
            .where(*ours, c.source == REPORTS, c.status == _FIRING)
            .order_by(*order)
            .limit(len(reported))
        )
        verdicts = connection.scalars(of_reports)
    return columns.triggers({number: _own(verdict) for number, verdict in zip(reported, verdicts, strict=True)})


def _cells(dialect: str, *, labels: bool) -> list[Any]:
    """As the driver has them, and what repeats together as one text: each cell costs, whatever is in it."""
    c = alert_trigger_log.c
    name = (c.fingerprint, c.starts_at, c.condition_fingerprint, c.alert_name, c.alert_id)
    said = (c.status, c.source, c.severity, c.outcome, c.notify)
    readings = (c.metrics_data, c.labels) if labels else (c.metrics_data,)
    array = sa.func.json_build_array if dialect == "postgresql" else sa.func.json_array
    cells: list[Any] = [array(*(_plain(cell) for cell in together)) for together in (name, said)] + list(readings)
    if dialect == "postgresql":
        cells = [sa.cast(cell, sa.Text) for cell in cells]
    return [_plain(cell) for cell in (c.created_at, *cells)]


def _plain(cell: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Without a type of SQLAlchemy's."""
    return sa.type_coerce(cell, sa.types.NullType())


class _Columns:
    """Cells as columns of `Triggers`, without a step of Python's for each but what is new."""

    def __init__(self, *, texts: bool) -> None:
        self._times = _Times(texts=texts)
        self._names = _Numbered(_name)
        self._kinds = _Numbered(_kind)
        self._readings: dict[Any, int] = {}
        self._read: list[Reading] = []
        self._found = Triggers()
        self._kind_of: list[int] = []

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """From the last to the first."""
        at, names, kinds, *texts = zip(*rows, strict=True)
        found = self._found
        found.at.extend(map(self._times.__getitem__, at))
        found.name_of.extend(map(self._names.__getitem__, names))
        self._kind_of.extend(map(self._kinds.__getitem__, kinds))
        readings: Sequence[Any] = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
        self._parse([one for one in dict.fromkeys(readings) if one not in self._readings])
        found.reading_of.extend(map(self._readings.__getitem__, readings))

    def _parse(self, readings: Sequence[Any]) -> None:
        """All in one text: reading them one by one takes three times as long."""
        if not readings:
            return
        start, alone = len(self._read), isinstance(readings[0], str)
        columns = [readings] if alone else zip(*readings, strict=True)
        documents = [json.loads(f"[{','.join(texts)}]") for texts in columns]
        self._read += zip(*documents, *([repeat(_NO_LABELS)] if alone else []))  # noqa: B905 - endless
        self._readings.update(zip(readings, range(start, len(self._read)), strict=True))

    def reported(self) -> list[int]:
        """Places of reports, from the last to the first."""
        reports = {number for number, kind in enumerate(self._kinds.found) if kind.reported}
        return [place for place, number in enumerate(self._kind_of) if number in reports] if reports else []

    def triggers(self, own: Mapping[int, Verdict]) -> Triggers:
        """From the first to the last; `own` by place from the last to the first."""
        found, last = self._found, len(self._kind_of) - 1
        for column in (found.at, found.name_of, found.reading_of, self._kind_of):
            column.reverse()
        kinds, ranks, found.said, _ = map(list, zip(*self._kinds.found, strict=True)) if found.at else ([], [], [], [])
        found.kinds = list(map(kinds.__getitem__, self._kind_of))
        found.ranks = list(map(ranks.__getitem__, self._kind_of))
        found.said_of = self._kind_of
        names, alert_ids = map(list, zip(*self._names.found, strict=True)) if found.at else ([], [])
        found.alert_ids = list(map(alert_ids.__getitem__, found.name_of))
        found.names, found.readings = names, self._read
        found.own = {last - place: verdict for place, verdict in own.items()}
        return found


_NO_LABELS: Mapping[str, str] = {}


class _Kind(NamedTuple):
    kind: int
    rank: int  # of the severity
    said: Said
    reported: bool


def _kind(text: str) -> _Kind:
    status, source, severity, *said = json.loads(text)
    kind = FIRING if status == _FIRING else SWEPT if source == _SWEEP else RESOLVED
    return _Kind(kind, Severity(severity).rank, Said._make(said), source == REPORTS and kind == FIRING)


def _name(text: str) -> tuple[Name, str | None]:
    """With the id of the alert."""
    fingerprint, starts_at, condition, alert_name, alert_id = json.loads(text)
    return Name(condition, (fingerprint, _time(starts_at)), alert_name), alert_id


class _Times(dict[Any, datetime]):
    """By what the driver gives, which is a text on SQLite: the same object for the same time."""

    def __init__(self, *, texts: bool) -> None:
        super().__init__()
        self._texts = texts

    def __missing__(self, value: Any) -> datetime:  # noqa: ANN401 - see above
        time = self[value] = _time(value) if self._texts else value.astimezone(UTC)
        return time


def _time(text: str) -> datetime:
    """As SQLite stores it, in UTC, or with its zone."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class _Numbered(dict[Any, int]):
    """What is found by its number; `found` is what `read` makes of it."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self._read = read
        self.found: list[Any] = []

    def __missing__(self, cells: Any) -> int:  # noqa: ANN401 - as the driver has them
        number = self[cells] = len(self.found)
        self.found.append(self._read(cells))
        return number


def _own(verdict: Mapping[str, Any]) -> Verdict:
    """What the thresholds of a report said, whatever its merchant's did."""
    own = verdict.get("own", verdict)
    return Verdict(own.get("passed", True), own.get("reason", ""))
