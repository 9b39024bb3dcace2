"""A backtest as a table for people, and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from webhook.rules.backtest import Backtest, BacktestedRule, Outcome, Span

_COLUMNS = ("alert of", "fired", "for", "longest", "pending only", "last fired (UTC)", "now: fired", "for")


def document(backtest: Backtest) -> dict[str, Any]:
    """Times in UTC, durations in seconds; `until` is null for what goes on at the end of the period."""
    return {
        "start": _time(backtest.period.start),
        "end": _time(backtest.period.end),
        "rules": [_rule(tested) for tested in backtest.tested],
    }


def _rule(tested: BacktestedRule) -> dict[str, Any]:
    return {
        "alert": tested.rule.name.text,
        "labels": {name: value.text for name, value in tested.rule.labels.items()},
        "interval_seconds": tested.interval / 1000,
        "problem": tested.problem or None,
        "notes": list(tested.notes),
        "series": [_series(outcome) for outcome in tested.outcomes],
    }


def _series(outcome: Outcome) -> dict[str, Any]:
    return {
        "labels": dict(sorted(outcome.labels)),
        "fired": len(outcome.fired),
        "firing_seconds": _sum(outcome.fired) / 1000,
        "episodes": [
            {
                "pending": _time(each.since),
                "firing": None if each.fired is None else _time(each.fired),
                "until": None if each.ended is None else _time(each.ended),
            }
            for each in outcome.history
        ],
        "now_fired": len(outcome.now),
        "now_firing_seconds": _sum(outcome.now) / 1000,
        "now": [{"firing": _time(start), "until": _time(end)} for start, end in outcome.now],
    }


def table(backtest: Backtest) -> Iterator[str]:
    period = f"{_short(backtest.period.start)} to {_short(backtest.period.end)} UTC"
    for tested in backtest.tested:
        severity = tested.rule.labels.get("severity")
        title = f"{tested.rule.name.text}{f' ({severity.text})' if severity else ''}"
        yield f"{title}: {period}, every {lasting(tested.interval)}"
        yield from (f"  note: {note}" for note in tested.notes)
        if tested.problem:
            yield f"  cannot be tested: {tested.problem}"
        elif tested.outcomes:
            yield from _lines([_COLUMNS, *(_row(outcome) for outcome in tested.outcomes)])
            yield f"  {_difference(tested.outcomes)}"
        else:
            yield "  would not have fired, and nothing of this name has"
        yield ""


def _row(outcome: Outcome) -> tuple[str, ...]:
    pending = sum(each.fired is None for each in outcome.history)
    longest = max((end - start for start, end in outcome.fired), default=0)
    return (
        _named(outcome),
        str(len(outcome.fired)),
        lasting(_sum(outcome.fired)),
        lasting(longest),
        str(pending),
        _short(outcome.fired[-1][0]) if outcome.fired else "-",
        str(len(outcome.now)),
        lasting(_sum(outcome.now)),
    )


def _named(outcome: Outcome) -> str:
    labels = dict(sorted(outcome.labels))
    if set(labels) == {"account_id"}:
        return labels["account_id"]
    return ",".join(f"{name}={value}" for name, value in labels.items()) or "(no labels)"


def _difference(outcomes: Sequence[Outcome]) -> str:
    new = sum(bool(each.fired) and not each.now for each in outcomes)
    gone = sum(bool(each.now) and not each.fired for each in outcomes)
    both = sum(bool(each.now) and bool(each.fired) for each in outcomes)
    fired, now = (sum(len(getattr(each, name)) for each in outcomes) for name in ("fired", "now"))
    told = f"fired {fired} times, now {now}; {both} fire in both"
    return f"{told}, {new} would be new, {gone} would not fire any more"


def _lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield f"  {'  '.join(cells)}"


def lasting(milliseconds: int) -> str:
    """In two units at most: 2d3h, 1h5m, 40s, 250ms."""
    seconds = milliseconds // 1000
    if not seconds:
        return f"{milliseconds}ms" if milliseconds else "0s"
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return "".join(f"{number}{unit}" for number, unit in parts[:2] if number)


def _sum(spans: Sequence[Span]) -> int:
    return sum(end - start for start, end in spans)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"
