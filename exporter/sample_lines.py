"""Families of the exporter's own metrics as exposition text. Pure.

A scrape has thousands of them when there are hundreds of sources; prometheus_client, made for a program's few dozen,
takes some 20 µs for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from exporter.exposition import Form

Kind = Literal["gauge", "counter", "info"]
_SUFFIXES: Mapping[Kind, str] = {"gauge": "", "counter": "_total", "info": "_info"}


def family(form: Form, name: str, kind: Kind, help_text: str, samples: Iterable[tuple[str, float]]) -> str:
    """Header and lines, empty without samples. `name` is without a counter's `_total` or an info's `_info`.

    A sample is its labels as they stand between the braces, and its value.
    """
    full = name + _SUFFIXES[kind]
    listed = list(samples)
    if not listed:
        return ""
    plain = all(math.isfinite(value) for _, value in listed)  # told apart once, not for each of thousands
    values = [repr(+value) for _, value in listed] if plain else [number(value) for _, value in listed]
    lines = [
        f"{full}{{{labels}}} {value}\n" if labels else f"{full} {value}\n"
        for (labels, _), value in zip(listed, values, strict=True)
    ]
    told, told_kind = (name, kind) if form == "openmetrics" else (full, "gauge" if kind == "info" else kind)
    help_text = _escaped(help_text).strip()
    if form == "openmetrics":
        help_text = help_text.replace('"', r"\"")
    return f"# HELP {told} {help_text}\n# TYPE {told} {told_kind}\n{''.join(lines)}"


def label(name: str, value: str) -> str:
    return f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"'


def number(value: float) -> str:
    if math.isfinite(value):
        return repr(+value)  # 1 for True
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escaped(text: str) -> str:
    return text.replace("\0", "").replace("\\", r"\\").replace("\n", r"\n")
