"""What the templates of annotations and labels read: labels, the value, and queries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`'
_ACTION = re.compile(rf"\{{\{{(?:{_STRING}|[^\"`}}]|\}}(?!\}}))*\}}\}}", re.DOTALL)
_LABEL = re.compile(r"(?:\$labels|\.Labels)\.(?P<name>[a-zA-Z_]\w*)")
_VALUE = re.compile(r"\{\{-?\s*(?:\$value|\.Value)\s*-?\}\}")
_QUERY = re.compile(
    rf"(?P<print>printf\s+)?(?P<text>{_STRING})(?P<arguments>[^|}}]*)\|\s*query\b"
    rf"|\bquery\s+(?:\(\s*(?P<print2>printf)\s+)?(?P<text2>{_STRING})(?P<arguments2>[^|)}}]*)",
    re.DOTALL,
)
_VERB = re.compile(r"%(?:\[\d+\])?[+#]?(?P<verb>[a-z])")
_ARGUMENT = re.compile(r"(?:\$labels|\.Labels)\.(?P<name>[a-zA-Z_]\w*)")
_UNGUARDED = re.compile(r"\bquery\b[^}]*\|\s*(?:first|value)\b")


@dataclass(frozen=True, slots=True)
class Query:
    """`text` with each `%q` as written; `labels` are what is put in, in order; `verbs` how."""

    text: str
    labels: tuple[str, ...]
    verbs: tuple[str, ...]


def actions(template: str) -> list[str]:
    return [match.group() for match in _ACTION.finditer(template)]


def labels_read(template: str) -> list[str]:
    return [match["name"] for action in actions(template) for match in _LABEL.finditer(action)]


def is_value(template: str) -> bool:
    """Whether it is the alert's value and nothing else."""
    return _VALUE.fullmatch(template.strip()) is not None


def reads_value(template: str) -> bool:
    return any(re.search(r"\$value\b|\.Value\b", action) for action in actions(template))


def is_label(template: str, name: str) -> bool:
    """Whether it is that label and nothing else."""
    return re.fullmatch(rf"\{{\{{-?\s*(?:\$labels|\.Labels)\.{name}\s*-?\}}\}}", template.strip()) is not None


def queries(template: str) -> Iterator[Query]:
    for action in actions(template):
        for match in _QUERY.finditer(action):
            text = (match["text"] or match["text2"])[1:-1]
            arguments = match["arguments"] or match["arguments2"] or ""
            labels = tuple(found["name"] for found in _ARGUMENT.finditer(arguments))
            verbs = tuple(found["verb"] for found in _VERB.finditer(text)) if match["print"] or match["print2"] else ()
            yield Query(text, labels, verbs)


def breaks_when_empty(template: str) -> bool:
    """Whether it takes the first of a query's results without asking whether there is one."""
    return any(_UNGUARDED.search(action) for action in actions(template))


def filled(query: Query, placeholder: str = '"x"') -> str:
    """PromQL that can be parsed, with a placeholder for what is put in."""
    return _VERB.sub(lambda match: placeholder if match["verb"] == "q" else "x", query.text)
