"""Durations in Prometheus' configuration and in PromQL: reading, writing, and replacing them inside expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

Replace = Callable[[str], str]

_UNITS_MS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_UNIT = r"(?:ms|[smhdwy])"
_DURATION = re.compile(rf"(?:\d+{_UNIT})+")
_PART = re.compile(rf"(\d+)({_UNIT})")

_STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`'
_TOKEN = re.compile(
    rf"""(?P<string>{_STRING}|'(?:\\.|[^'\\])*')
    |(?P<space>\s+|\#[^\n]*)
    |(?P<duration>{_DURATION.pattern})(?!\w)
    |(?P<name>[A-Za-z_][\w:]*)
    |(?P<number>\d[\w.]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ACTION = re.compile(rf"\{{\{{(?:{_STRING}|[^\"`}}]|\}}(?!\}}))*\}}\}}", re.DOTALL)
_LITERAL = re.compile(_STRING, re.DOTALL)


def parse_duration(text: object) -> int:
    """Milliseconds of a Prometheus duration (`1h30m`, `500ms`, `0`); ValueError for anything else."""
    if text in ("0", 0):
        return 0
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text!r} (wanted as in 30s, 5m, 1h30m)")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))


def format_duration(milliseconds: int) -> str:
    """The exact text in one unit, none longer than an hour, that Prometheus and Alertmanager both read."""
    for unit in ("h", "m", "s"):
        if milliseconds % _UNITS_MS[unit] == 0 and milliseconds:
            return f"{milliseconds // _UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def replace_durations(expression: str, replace: Replace, replace_step: Replace | None = None) -> str:
    """`expression` with each range, subquery step and offset replaced; strings, comments and names stay.

    Steps are replaced by `replace_step` where it is given.
    """
    replaced = []
    in_brackets = in_step = after_offset = False
    for token in _TOKEN.finditer(expression):
        kind, text = token.lastgroup, token.group()
        if kind == "duration" and (in_brackets or after_offset):
            text = ((in_step and replace_step) or replace)(text)
        if text in "[]":
            in_brackets = text == "["
        in_step = in_brackets and (in_step or text == ":")
        if kind != "space" and text not in "+-":
            after_offset = kind == "name" and text.lower() == "offset"
        replaced.append(text)
    return "".join(replaced)


def replace_durations_in_template(template: str, replace: Replace, replace_step: Replace | None = None) -> str:
    """The same inside the PromQL that a template (an annotation) hands to `query`; all other text stays."""
    return _ACTION.sub(lambda action: _replace_in_action(action.group(), replace, replace_step), template)


def _replace_in_action(action: str, replace: Replace, replace_step: Replace | None) -> str:
    if not re.search(r"\bquery\b", _LITERAL.sub("", action)):
        return action

    def literal(match: re.Match[str]) -> str:
        text = match.group()
        if text.startswith("`"):
            return f"`{replace_durations(text[1:-1], replace, replace_step)}`"
        unquoted = json.loads(text)  # Go's usual escapes are JSON's; others are refused by name of the template
        changed = replace_durations(unquoted, replace, replace_step)
        return text if changed == unquoted else json.dumps(changed, ensure_ascii=False)

    try:
        return _LITERAL.sub(literal, action)
    except json.JSONDecodeError as error:
        raise ValueError(f"write PromQL in templates between backticks, not as in {action}") from error
