"""What `test-source` prints about a run: rows, series, exposition, warnings, measures, and differences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from exporter.collectors.base import Measure, SourceConfig
from exporter.difference import Family, FamilyDifference
from exporter.environment import Secrets
from exporter.errors import CollectError
from exporter.status_page import span
from exporter.try_source import Trial

_EXAMPLES = 3
_LINES = 3
_CELL = 40
_MOST_COLUMNS = 12
_KIBIBYTE = 1024
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

HINTS = {
    "unreachable": "look at the host and port, whether the source runs, and whether this machine may reach it",
    "timeout": "make the query faster, or raise the source's timeout",
    "rate_limited": "the source asks for patience: try again later, and use a longer interval",
    "server_error": "the fault is the source's: try again later",
    "denied": "look at the user, token and permissions that the source is read with",
    "query": "try the query in the source's own console; the message is the source's",
    "bad_answer": "look at what the source answers: the message says what was expected",
    "missing_field": "use one of the fields that the message lists, or add it to the query",
    "duplicates": "add the label that tells the rows apart, aggregate in the query, or set duplicates",
    "budget": "narrow the query, or raise the budget that the message names",
    "secret": "set the variable, or make the file readable, where you run this",
    "unsupported": "install the extra that the message names",
    "internal": "this is a fault of the exporter: please report it with the traceback above",
}


def report(trial: Trial, config: SourceConfig, *, rows: int, full: bool, width: int) -> Iterator[str]:
    """Everything but the difference, line by line. `rows` are shown at most; `width` is the terminal's."""
    rendered = trial.rendered
    size, packed = len(trial.text.encode()), trial.compressed_size
    yield f"{config.name}: {config.type}, {_counted(len(config.metrics), 'metric')}"
    yield (
        f"collected {_counted(len(trial.frame), 'row')} in {span(trial.collecting)}; "
        f"{_counted(rendered.series, 'series', 'series')} rendered in {span(trial.rendering)}: "
        f"{_bytes(size)}, {_bytes(packed)} with gzip"
    )
    yield from _rows(trial, rows, width)
    yield from ("", "series:")
    named = max((len(metric.prometheus_name) for metric in config.metrics), default=0)
    counts = {family.name: family.series for family in rendered.families}
    for metric in config.metrics:
        count = counts.get(metric.prometheus_name, 0)
        yield f"  {metric.prometheus_name:{named}}  {metric.type:9}  {count:>10,}"
    yield from ("", "exposition:" if full else f"exposition, {_LINES} lines of each family (--full for all):")
    yield from _exposition(trial, full=full)
    if trial.warnings:
        yield from ("", "warnings:")
        yield from (f"  {each.reason}, {_counted(each.count, 'time')}: {each.detail}" for each in trial.warnings)
    yield from measured(trial.measures)


def failed(name: str, error: CollectError) -> Iterator[str]:
    yield f"{name}: {error.reason}: {error}"
    yield f"hint: {HINTS.get(error.reason, HINTS['internal'])}"


def measured(measures: Iterable[Measure]) -> Iterator[str]:
    """What the collection says of itself, such as bytes billed; the last value of each."""
    last = {(each.name, *sorted(each.labels.items())): each for each in measures}
    if last:
        yield from ("", "measures:")
    for each in last.values():
        labels = ", ".join(f"{name}={value}" for name, value in sorted(each.labels.items()))
        name = f"{each.name} ({labels})" if labels else each.name
        yield f"  {name}: {each.value:,.15g}  {each.help}"


def differences(found: Sequence[FamilyDifference], url: str) -> Iterator[str]:
    """Counts and examples; `before` is what the exporter at `url` serves."""
    yield from ("", f"difference to what {url} serves:")
    if not any(family.any for family in found):
        yield "  none: every series is there, with the same value"
    for family in found:
        if family.any:
            yield from _family(family)


def printable(text: str, secrets: Secrets) -> str:
    """Without secrets, and without characters that would steer a terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", secrets.redact(text))


def _rows(trial: Trial, most: int, width: int) -> Iterator[str]:
    frame = trial.frame
    if len(frame) and most:
        shown = f"the first {most:,} of {len(frame):,}" if len(frame) > most else "all"
        yield from ("", f"rows ({shown}):")
        yield from _table(frame.head(most), trial.secrets, width).splitlines()
    unused = [name for name in trial.fields if name not in frame.columns]
    if unused:
        yield f"fields that no metric reads: {', '.join(unused)}"


def _table(frame: pl.DataFrame, secrets: Secrets, width: int) -> str:
    """Secrets are hidden cell by cell, before a long text is cut and nobody could recognise them."""
    cells = {
        name: column if column.dtype.is_numeric() else [printable(str(value), secrets) for value in column]
        for name, column in zip(frame.columns, frame.get_columns(), strict=True)
    }
    with pl.Config(
        tbl_rows=-1, tbl_cols=_MOST_COLUMNS, tbl_width_chars=width, fmt_str_lengths=_CELL,
        tbl_formatting="UTF8_FULL_CONDENSED", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
    ):  # fmt: skip
        return str(pl.DataFrame(cells))


def _exposition(trial: Trial, *, full: bool) -> Iterator[str]:
    """The text by families, each with its first samples or all of them."""
    samples = 0
    for line in trial.text.rstrip("\n").split("\n"):
        if line.startswith("#"):
            if samples > _LINES and not full:
                yield f"  … and {samples - _LINES:,} more"
            samples = 0
            yield f"  {line}"
            continue
        samples += 1
        if full or samples <= _LINES:
            yield f"  {line}"
    if samples > _LINES and not full:
        yield f"  … and {samples - _LINES:,} more"


def _family(family: FamilyDifference) -> Iterator[str]:
    before, after = family.before, family.after
    if before is None or after is None:
        count = len((after or before or Family()).samples)
        yield f"  {family.name}: {'new' if before is None else 'gone'}, {_counted(count, 'series', 'series')}"
        return
    counts = {"new": family.new, "gone": family.gone, "changed": family.changed}
    said = ", ".join(f"{len(series):,} {word}" for word, series in counts.items() if series) or "the same series"
    yield f"  {family.name}: {said}; {len(before.samples):,} there, {len(after.samples):,} here"
    if family.retyped:
        yield f"    type {before.type} -> {after.type}"
    yield from (f"    new      {series} {after.samples[series]}" for series in family.new[:_EXAMPLES])
    yield from (f"    gone     {series} {before.samples[series]}" for series in family.gone[:_EXAMPLES])
    for series in family.changed[:_EXAMPLES]:
        yield f"    changed  {series} {before.samples.get(series, '…')} -> {after.samples[series]}"


def _counted(count: int, noun: str, many: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def _bytes(count: int) -> str:
    if count < _KIBIBYTE:
        return f"{count} B"
    if count < _KIBIBYTE**2:
        return f"{count / _KIBIBYTE:.1f} KiB"
    return f"{count / _KIBIBYTE**2:,.1f} MiB"
