"""The page at `/`: what each source does, at a glance, what fails first. Pure, apart from what it is given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from urllib.parse import urlencode

from exporter.mapping.spec import DataWarning
from exporter.scheduler import Failure, SourceState
from exporter.status_assets import SCRIPT, STYLE

_NOTHING = "-"
_MOST_WARNINGS = 10  # of one source
_MOST_ROWS = 1000
_LONG_TEXT = 180
_SECOND = 1000  # milliseconds
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LINKS = {"Metrics": "/metrics", "Configuration": "/config", "Ready": "/-/ready", "Healthy": "/-/healthy"}
_GROUPS = {"failing": "bad", "warnings": "busy", "waiting": "busy", "up": "good"}  # the worst first, with their colour


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sources the page lists: text in name, type or error, and one of the groups; empty for all."""

    text: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A source as it is listed."""

    state: SourceState
    kind: str
    group: str
    word: str

    def matches(self, shown: Filter) -> bool:
        failure = self.state.last_failure if self.state.failures else None
        text = " ".join([self.state.name, self.kind, *([failure.reason, failure.message] if failure else [])])
        wanted = all(word in text.lower() for word in shown.text.lower().split())
        return wanted and shown.state in ("", self.group)


def status_page(
    states: Iterable[SourceState],
    types: Mapping[str, str],
    *,
    wall: float,
    monotonic: float,
    version: str,
    shown: Filter | None = None,
) -> str:
    """The whole page. `wall` is now in Unix seconds, `monotonic` is now on the states' clock."""
    shown = shown or Filter()
    if shown.state not in _GROUPS:
        shown = Filter(shown.text)
    everything = [_listed(state, types.get(state.name, "")) for state in states]
    everything.sort(key=lambda each: list(_GROUPS).index(each.group))
    failing = sum(each.group == "failing" for each in everything)
    title = (f"{failing} failing · " if failing else "") + "Sentinel exporter"
    links = "".join(f'<a href="{path}">{name}</a>' for name, path in _LINKS.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<noscript><meta http-equiv="refresh" content="10"></noscript>'
        f"<style>{STYLE}</style></head><body><main><header><h1>Sentinel exporter</h1><nav>{links}</nav></header>"
        f"{_tally(everything, shown)}{_form(shown)}{_sources(everything, shown, wall, monotonic)}"
        f'<footer id="foot">{_time(wall, wall)} UTC · version {escape(version)} · renews itself every 10 s</footer>'
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )


def _listed(state: SourceState, kind: str) -> _Listed:
    return _Listed(state, kind, *_group(state))


def _group(state: SourceState) -> tuple[str, str]:
    """Group and word for what a source does."""
    if state.overdue:
        return "failing", "hangs"
    if state.stopped:
        return "failing", "stopped"
    if state.failures:
        word = "down, serving last good" if state.series else "down"
        return "failing", word
    if state.attempts:
        return ("warnings", "up, with warnings") if state.last_warnings else ("up", "up")
    if state.warm:
        return "waiting", "from before"
    return "waiting", "first run" if state.running_since is not None else "waiting"


def _tally(everything: Sequence[_Listed], shown: Filter) -> str:
    """How many there are of each group; each is a link that lists only these."""
    counts = Counter(each.group for each in everything)
    series = sum(each.state.series for each in everything)
    words = [f"{counts['failing']} failing"] * bool(counts["failing"])
    words += [f"{counts['warnings']} with warnings"] * bool(counts["warnings"])
    summary = f"{_counted(len(everything), 'source')}, {', '.join(words) or 'all well'}, {series:,} series"
    chips = [_chip("", "all", len(everything), "", shown)]
    chips += [_chip(group, group, counts[group], style, shown) for group, style in _GROUPS.items() if counts[group]]
    return f'<div id="tally"><p>{summary}</p><ul>{"".join(chips)}</ul></div>'


def _chip(group: str, word: str, count: int, style: str, shown: Filter) -> str:
    target = {key: value for key, value in {"q": shown.text, "state": group}.items() if value}
    current = ' aria-current="true"' if shown.state == group else ""
    href = escape("/?" + urlencode(target) if target else "/")
    return f'<li class="{style}"><a href="{href}"{current}>{word} <b>{count:,}</b></a></li>'


def _form(shown: Filter) -> str:
    kept = f'<input type="hidden" name="state" value="{escape(shown.state)}">' if shown.state else ""
    return (
        f'<form action="/" role="search">{kept}<input type="search" name="q" value="{escape(shown.text)}" '
        'placeholder="Name, type or error" aria-label="Search sources" autocomplete="off">'
        "<button>Search</button></form>"
    )


def _sources(everything: Sequence[_Listed], shown: Filter, wall: float, monotonic: float) -> str:
    found = [each for each in everything if each.matches(shown)]
    if not found:
        return '<div id="sources" class="frame"><p class="none">No source matches.</p></div>'
    rows = "".join(_row(each, wall, monotonic) for each in found[:_MOST_ROWS])
    more = len(found) - _MOST_ROWS
    rest = f'<p class="none">and {_counted(more, "more source")}: search for them</p>' if more > 0 else ""
    return (
        '<div id="sources" class="frame"><table><thead><tr><th>Source</th><th>State</th><th>Last run</th>'
        '<th class="number">Rows</th><th class="number">Series</th><th class="number">Age</th><th>Next run</th>'
        f"<th>Last error and warnings</th></tr></thead><tbody>{rows}</tbody></table>{rest}</div>"
    )


def _row(listed: _Listed, wall: float, monotonic: float) -> str:
    state = listed.state
    age = _NOTHING if state.fresh_since is None else span(monotonic - state.fresh_since)
    troubles = _troubles(state, wall)
    return (
        f'<tr><td class="name" data-label="Source"><span><strong>{escape(state.name)}</strong><br>'
        f'<span class="soft">{escape(listed.kind)}, <span class="every">{_schedule(state)}</span></span>'
        "</span></td>"
        f'<td data-label="State"><span class="state {_GROUPS[listed.group]}">{listed.word}</span></td>'
        f'<td class="time" data-label="Last run"><span>{_last_run(state, wall)}</span></td>'
        f'<td class="number" data-label="Rows">{state.rows:,}</td>'
        f'<td class="number" data-label="Series">{state.series:,}</td><td class="number" data-label="Age">{age}</td>'
        f'<td class="time" data-label="Next run">{_next_run(state, monotonic)}</td>'
        f'<td class="error{"" if troubles else " void"}">{troubles or _NOTHING}</td></tr>'
    )


def _schedule(state: SourceState) -> str:
    return f"every {span(state.interval)}" if state.cron is None else f"at {escape(state.cron)}"


def _last_run(state: SourceState, wall: float) -> str:
    if state.last_run_at is None:
        return _NOTHING
    took = "" if state.duration is None else f'<br><span class="soft">took {span(state.duration)}</span>'
    return f"{_time(state.last_run_at, wall)}{took}"


def _next_run(state: SourceState, monotonic: float) -> str:
    if state.next_run is not None:
        return f"in {span(max(0.0, state.next_run - monotonic))}"
    return "now" if state.running_since is not None else "never"


def _troubles(state: SourceState, wall: float) -> str:
    """The last error, and the warnings about what is served; empty without any."""
    parts = [] if state.last_failure is None else [_error(state, state.last_failure, wall)]
    parts += [_warning(warning) for warning in state.last_warnings[:_MOST_WARNINGS]]
    more = len(state.last_warnings) - _MOST_WARNINGS
    if more > 0:
        parts.append(f'<p class="soft">and {_counted(more, "more warning")}</p>')
    return "".join(parts)


def _warning(warning: DataWarning) -> str:
    times = _counted(warning.count, "time")
    return f'<p>{escape(warning.detail)}<br><span class="soft">warning {escape(warning.reason)}, {times}</span></p>'


def _error(state: SourceState, failure: Failure, wall: float) -> str:
    """The last failure; softly once the source has recovered, and folded where it is long."""
    when = f"{escape(failure.reason)}, {span(max(0.0, wall - failure.at))} ago"
    if not state.failures:
        when += ", recovered"
    text = escape(failure.message)
    if len(failure.message) > _LONG_TEXT:
        start = escape(failure.message[:_LONG_TEXT].rsplit(" ", 1)[0])
        text = f'<details id="error-{escape(state.name)}"><summary>{start} …</summary>{text}</details>'
    style = "" if state.failures else ' class="soft"'
    return f'<div{style}>{text}<p class="soft">{when}</p></div>'


def span(seconds: float) -> str:
    """A length of time for people: `3 ms`, `45 s`, `3 m 20 s`, `5 h 12 m`, `2 d 3 h`."""
    thousandths = math.ceil(seconds * 1000)
    if thousandths < _SECOND:
        return f"{thousandths} ms" if thousandths else "0 s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    for unit, name, smaller, small in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _time(at: float, now: float) -> str:
    """Time of day in UTC, with the date where it was not within the last hours."""
    recent = now - at < _DAY / 2
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if recent else "%Y-%m-%d %H:%M")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
