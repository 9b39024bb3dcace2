"""YAML with its line numbers kept, so that every error can say where it is.

Keys are taken as written: the key `null` is the text `null`, and a key that stands twice is an error.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from exporter.errors import ConfigError, Problem

Path = Sequence[str | int]
_DEEP = 200
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_HALF = "has one half of a character (\\ud800 to \\udfff)"
_KINDS = {"timestamp": "date or time", "int": "number", "float": "number", "bool": "true or false"}


def _composed(text: str) -> tuple[Any, yaml.Node | None]:
    """A loader and its document: libyaml's where there is one, which is several times as fast.

    What it refuses is read again, since the errors of the other one are in better words; so is what is nested so
    deeply that its recursion, which knows no limit, would end the process.
    """
    if yaml.__with_libyaml__ and _depth(text) < _DEEP:
        with contextlib.suppress(yaml.YAMLError):
            fast = yaml.CSafeLoader(text)
            return fast, fast.get_single_node()
    loader = yaml.SafeLoader(text)
    return loader, loader.get_single_node()


def _depth(text: str) -> int:
    """How deeply the document is nested, up to where it is no YAML any more."""
    depth = deepest = 0
    with contextlib.suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            deepest = max(deepest, depth)
    return deepest


class Located:
    """A document: its `data`, the line of each path in it, and the problems found while reading it."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._lines: dict[tuple[str | int, ...], int] = {(): 1}
        self._open: set[int] = set()
        try:
            self._loader, node = _composed(text)
            self.data = None if node is None else self._read(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(filter(None, (error.context, error.problem)))
            raise ConfigError([Problem(file, mark.line + 1 if mark else 1, "", f"no valid YAML: {what}")]) from None
        except RecursionError:
            raise ConfigError([Problem(file, 1, "", "is nested too deeply")]) from None
        except yaml.YAMLError as error:
            raise ConfigError([Problem(file, 1, "", f"no valid YAML: {' '.join(str(error).split())}")]) from None

    def line(self, path: Path) -> int:
        """Line of what is at `path`, or of the nearest part above it that is there; from 1."""
        at = tuple(path)
        while at not in self._lines:
            at = at[:-1]
        return self._lines[at]

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.file, self.line(path), dotted(path), message)

    def _read(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - anything that YAML can hold
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._open:
            raise ConfigError([Problem(self.file, node.start_mark.line + 1, dotted(path), "contains itself")])
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._read(item, (*path, position)) for position, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - anything that YAML can hold
        """A plain value; one that cannot be read is a problem, and goes on as the text that it was written as."""
        try:
            value = self._loader.construct_object(node)
        except (ValueError, KeyError, AttributeError, OverflowError):  # what yaml lets through of a bad date or number
            kind = _KINDS.get(node.tag.rpartition(":")[2], "value")
            self.problems.append(self.problem(path, f"is no {kind} that there is: correct it, or put it in quotes"))
            return str(node.value)
        if isinstance(value, str) and _HALF_A_CHARACTER.search(value):
            self.problems.append(self.problem(path, f"{_HALF}: write the whole character"))
            return _HALF_A_CHARACTER.sub("?", value)
        return value

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(self.file, key.start_mark.line + 1, dotted(path), "a key must be text"))
            elif _HALF_A_CHARACTER.search(key.value):
                self.problems.append(Problem(self.file, key.start_mark.line + 1, dotted(path), f"a key {_HALF}"))
            elif key.tag == "tag:yaml.org,2002:merge":
                data |= {name: item for name, item in self._merged(value, path).items() if name not in own}
            elif key.value in data and (*path, key.value) in self._lines:
                first = self._lines[*path, key.value]
                message = f"stands twice, first in line {first}: keep one"
                at = dotted((*path, key.value))
                self.problems.append(Problem(self.file, key.start_mark.line + 1, at, message))
            else:
                self._lines[*path, key.value] = key.start_mark.line + 1
                data[key.value] = self._read(value, (*path, key.value))
        return data

    def _merged(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, Any]:
        """What `<<: *anchor` brings in; of several, the first has precedence."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            data = self._read(source, (*path, "<<"))
            merged = (data if isinstance(data, dict) else {}) | merged
        return merged


def dotted(path: Path) -> str:
    """`data_sources[0].metrics[1].type`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
