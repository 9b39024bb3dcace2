"""The page at `/`: what each source does, at a glance. Pure, apart from what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape

from exporter.mapping.spec import DataWarning
from exporter.scheduler import Failure, SourceState

_NOTHING = "-"
_MOST_WARNINGS = 10  # of one source
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e1e5ea; --text: #1b2430; --soft: #5b6776;
  --good: #14743b; --good-back: #dff5e7; --bad: #a8201a; --bad-back: #fde5e3; --busy: #7a4d00; --busy-back: #fdf0d5;
  --link: #1f5fbf }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --line: #2c3542; --text: #e4e9f0;
  --soft: #98a5b5; --good: #7fdc9f; --good-back: #143322; --bad: #ff9d95; --bad-back: #40191a; --busy: #f3c76a;
  --busy-back: #3a2c10; --link: #8ab8ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { font-size: 1.4rem; margin: 0 } a { color: var(--link) }
header p, footer { color: var(--soft); margin: .25rem 0 1.25rem } footer { margin-top: 1rem; font-size: .87rem }
.frame { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } td, th { padding: .55rem .8rem; text-align: left; vertical-align: top }
th { font-size: .78rem; font-weight: 600; color: var(--soft); text-transform: uppercase; letter-spacing: .03em;
  white-space: nowrap }
tr + tr > td, thead + tbody td { border-top: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.time { white-space: nowrap } .soft { color: var(--soft); font-size: .87rem }
.state { border-radius: 1rem; padding: .1rem .6rem; font-size: .85rem; font-weight: 600; white-space: nowrap }
.good { color: var(--good); background: var(--good-back) } .bad { color: var(--bad); background: var(--bad-back) }
.busy { color: var(--busy); background: var(--busy-back) } .error { min-width: 16rem; overflow-wrap: anywhere }
@media (max-width: 48rem) { thead { display: none } table, tbody, tr, td { display: block }
  tr { padding: .6rem 0 } tr + tr { border-top: 1px solid var(--line) } tr + tr > td, thead + tbody td { border: 0 }
  td { padding: .15rem .8rem; display: flex; gap: .8rem; justify-content: space-between; text-align: right }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: none } .error { min-width: 0 } }
"""


def status_page(
    states: Iterable[SourceState], types: Mapping[str, str], *, wall: float, monotonic: float, version: str
) -> str:
    """The whole page. `wall` is now in Unix seconds, `monotonic` is now on the states' clock."""
    listed = list(states)
    failing = sum(bool(state.failures) for state in listed)
    warned = sum(bool(state.last_warnings) for state in listed)
    health = ", ".join([*([f"{failing} failing"] if failing else []), *([f"{warned} with warnings"] if warned else [])])
    series = sum(state.series for state in listed)
    rows = "".join(_row(state, types.get(state.name, ""), wall, monotonic) for state in listed)
    summary = f"{_counted(len(listed), 'source')}, {health or 'all well'}, {series:,} series"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sentinel exporter</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="10">'
        f"<style>{_STYLE}</style></head><body><main><header><h1>Sentinel exporter</h1><p>{summary} · "
        '<a href="/metrics">metrics</a></p></header><div class="frame"><table><thead><tr><th>Source</th><th>State</th>'
        '<th>Last run</th><th class="number">Rows</th><th class="number">Series</th><th class="number">Age</th>'
        f"<th>Next run</th><th>Last error and warnings</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<footer>{_time(wall)} UTC · version {escape(version)} · renews itself every 10 s</footer>"
        "</main></body></html>\n"
    )


def _row(state: SourceState, kind: str, wall: float, monotonic: float) -> str:
    style, word = _state(state)
    age = _NOTHING if state.fresh_since is None else span(monotonic - state.fresh_since)
    ran = _NOTHING
    if state.last_run_at is not None:
        took = "" if state.duration is None else f'<br><span class="soft">took {span(state.duration)}</span>'
        ran = f"{_time(state.last_run_at)}{took}"
    following = "now" if state.running_since is not None else "never"
    if state.next_run is not None:
        following = f"in {span(max(0.0, state.next_run - monotonic))}"
    return (
        f'<tr><td data-label="Source"><span><strong>{escape(state.name)}</strong><br>'
        f'<span class="soft">{escape(kind)}, '
        f"every {span(state.interval)}</span></span></td>"
        f'<td data-label="State"><span class="state {style}">{word}</span></td>'
        f'<td class="time" data-label="Last run"><span>{ran}</span></td>'
        f'<td class="number" data-label="Rows">{state.rows:,}</td>'
        f'<td class="number" data-label="Series">{state.series:,}</td><td class="number" data-label="Age">{age}</td>'
        f'<td class="time" data-label="Next run">{following}</td>'
        f'<td class="error" data-label="Last error and warnings">{_troubles(state, wall)}</td></tr>'
    )


def _state(state: SourceState) -> tuple[str, str]:
    """Colour and word for what a source does."""
    if state.overdue:
        return "bad", "hangs"
    if state.failures:
        return "bad", "down" if not state.series else "down, serving last good"
    if state.attempts:
        return ("busy", "up, with warnings") if state.last_warnings else ("good", "up")
    return "busy", "first run" if state.running_since is not None else "waiting"


def _troubles(state: SourceState, wall: float) -> str:
    """The last error, and the warnings about what is served."""
    parts = [] if state.last_failure is None else [_error(state.last_failure, wall)]
    parts += [_warning(warning) for warning in state.last_warnings[:_MOST_WARNINGS]]
    more = len(state.last_warnings) - _MOST_WARNINGS
    if more > 0:
        parts.append(f'<span class="soft">and {_counted(more, "more warning")}</span>')
    return f"<span>{'<br>'.join(parts)}</span>" if parts else _NOTHING


def _warning(warning: DataWarning) -> str:
    times = _counted(warning.count, "time")
    return (
        f'<span>{escape(warning.detail)}<br><span class="soft">warning {escape(warning.reason)}, {times}</span></span>'
    )


def _error(failure: Failure, wall: float) -> str:
    when = span(max(0.0, wall - failure.at))
    return f'<span>{escape(failure.message)}<br><span class="soft">{escape(failure.reason)}, {when} ago</span></span>'


def span(seconds: float) -> str:
    """A length of time for people: `0.12 s`, `45 s`, `3 m 20 s`, `5 h 12 m`, `2 d 3 h`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    for unit, name, smaller, small in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
