"""A Prometheus rule file with the place of everything in it. Aliases and merges are read as Prometheus does."""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import promql_parser
import yaml

from webhook.rules.finding import Finding, Level, Place
from webhook.rules.promql import masked

_GROUP_KEYS = ("name", "interval", "limit", "query_offset", "labels", "rules", "partial_response_strategy")
_RULE_KEYS = ("alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations")
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Source:
    """A file's name and text."""

    file: str
    text: str

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def place(self, index: int) -> Place:
        """Of a character of the text."""
        line = bisect.bisect_right(self._starts, index)
        return Place(self.file, line, index - self._starts[line - 1] + 1)


@dataclass(frozen=True)
class Value:
    """A scalar: what it says, and from where to where it stands in the file."""

    source: Source
    text: str
    start: int
    end: int

    @property
    def place(self) -> Place:
        return self.source.place(self.start)

    def find(self, pattern: str, number: int = 0, *, code: bool = False) -> Place:
        """Of the match of that number in what is written, else where the value begins.

        With `code`, PromQL is searched without its strings, comments and label matchers.
        """
        written = self.source.text[self.start : self.end]
        found = list(re.finditer(pattern, masked(written) if code else written))
        return self.source.place(self.start + found[number].start()) if number < len(found) else self.place


@dataclass(frozen=True)
class Rule:
    """`key` is where `alert` or `record` stands; `fields` are the other scalars."""

    group: Group
    kind: str
    name: Value
    expr: Value
    fields: Mapping[str, Value] = field(default_factory=dict)
    labels: Mapping[str, Value] = field(default_factory=dict)
    annotations: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def parsed(self) -> promql_parser.Expr | None:
        """None where the expression cannot be read; `unreadable` says why."""
        try:
            return promql_parser.parse(self.expr.text)
        except ValueError:
            return None

    @property
    def is_alert(self) -> bool:
        return self.kind == "alert"

    @property
    def about_merchants(self) -> bool:
        """Whether it says that it speaks of a merchant."""
        return self.is_alert and "alert_type" in self.labels and not self.about_operations

    @property
    def about_operations(self) -> bool:
        """Whether it is for those who run this."""
        return self.is_alert and "alert_type" in self.labels and self.labels["alert_type"].text == "OPERATIONS"

    def duration(self, key: str) -> float:
        """Seconds of `for` or `keep_firing_for`, 0 without; raise ValueError."""
        value = self.fields.get(key)
        return seconds(value.text) if value else 0.0

    def finding(self, check: str, place: Place, message: str, hint: str, level: Level = Level.ERROR) -> Finding:
        return Finding(place, self.name.text, check, message, hint, level)


@dataclass(frozen=True, eq=False)
class Group:
    """`interval` is None where Prometheus' own evaluation interval counts; seconds otherwise.

    `labels` are those of all its rules, `offset` is how many seconds back it looks.
    """

    file: str
    name: Value
    interval: float | None
    limit: int
    labels: Mapping[str, Value] = field(default_factory=dict)
    offset: float = 0.0
    rules: list[Rule] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class RuleFile:
    """What could be read, and what could not."""

    path: str
    groups: Sequence[Group]
    problems: Sequence[Finding]

    @property
    def rules(self) -> list[Rule]:
        return [rule for group in self.groups for rule in group.rules]


def seconds(text: str) -> float:
    """Of a duration as Prometheus writes it (`1h30m`, `500ms`, `0`); raise ValueError."""
    return 0.0 if text == "0" else promql_parser.parse_duration(text).total_seconds()


def read(path: Path) -> RuleFile:
    """What cannot be read of it is a finding."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        hint = "name a file that you may read"
        return RuleFile(str(path), (), [Finding(Place(str(path)), "", "file", f"cannot be read: {why}", hint)])
    return parse(text, str(path))


def parse(text: str, file: str) -> RuleFile:
    source = Source(file, text)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        return RuleFile(file, (), [Finding(place, "", "yaml", f"{error.problem}", "correct the YAML around here")])
    except yaml.YAMLError as error:
        return RuleFile(file, (), [Finding(Place(file), "", "yaml", " ".join(str(error).split()), "correct the YAML")])
    reading = _Reading(source)
    groups = list(reading.groups(node))
    return RuleFile(file, groups, reading.problems)


class _Reading:
    def __init__(self, source: Source) -> None:
        self._source = source
        self.problems: list[Finding] = []

    def groups(self, document: yaml.Node | None) -> Iterator[Group]:
        top = self._mapping(document, "groups:", ("groups",), "")
        for node in self._items(top.get("groups"), "groups"):
            fields = self._mapping(node, "name: and rules:", _GROUP_KEYS, "")
            name = self._scalar(fields.get("name"))
            if name is None:
                self._problem(node, "", "a group has no name", "give it a name: that no other group of the file has")
                continue
            interval, limit = self._scalar(fields.get("interval")), self._scalar(fields.get("limit"))
            labels, offset = self._texts(fields.get("labels"), ""), self._scalar(fields.get("query_offset"))
            back = self._seconds(offset, "query_offset") or 0.0
            group = Group(self._source.file, name, self._seconds(interval), self._number(limit), labels, back)
            group.rules.extend(self._rules(group, fields.get("rules")))
            yield group

    def _rules(self, group: Group, nodes: yaml.Node | None) -> Iterator[Rule]:
        for node in self._items(nodes, "rules"):
            fields = self._mapping(node, "alert: or record:, and expr:", _RULE_KEYS, "")
            kind = "alert" if "alert" in fields else "record"
            name, expr = self._scalar(fields.get(kind)), self._scalar(fields.get("expr"))
            if name is None or expr is None:
                hint = "a rule has alert: or record: with a name, and expr:"
                self._problem(node, name.text if name else "", "a rule without name or expression", hint)
                continue
            others = {key: value for key in _RULE_KEYS[3:5] if (value := self._scalar(fields.get(key)))}
            texts = [self._texts(fields.get(key), name.text) for key in ("labels", "annotations")]
            yield self._timed(Rule(group, kind, name, expr, others, *texts))

    def _timed(self, rule: Rule) -> Rule:
        for key, value in rule.fields.items():
            self._seconds(value, f"{rule.name.text}: {key}")
        return rule

    def _texts(self, node: yaml.Node | None, rule: str) -> dict[str, Value]:
        fields = self._mapping(node, "names and texts", None, rule) if node is not None else {}
        return {key: value for key, each in fields.items() if (value := self._scalar(each))}

    def _mapping(
        self, node: yaml.Node | None, wanted: str, known: Sequence[str] | None, rule: str
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, rule, f"no mapping with {wanted}", "look at docs/rules.md for an example")
            return {}
        fields: dict[str, yaml.Node] = {}
        merged: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for each in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
                    merged |= self._mapping(each, wanted, known, rule)
                continue
            if known is not None and key.value not in known:
                self._unknown(key, known)
            if key.value in fields:
                self._problem(key, rule, f"{key.value} stands twice", "keep one of them")
            fields[key.value] = value
        return merged | fields

    def _items(self, node: yaml.Node | None, name: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self._problem(node, "", f"{name} is no list", f"write {name}: and a list, each item starting with -")
        return []

    def _scalar(self, node: yaml.Node | None) -> Value | None:
        if not isinstance(node, yaml.ScalarNode):
            return None
        return Value(self._source, node.value, node.start_mark.index, node.end_mark.index)

    def _seconds(self, value: Value | None, name: str = "interval") -> float | None:
        if value is None:
            return None
        try:
            return seconds(value.text)
        except ValueError:
            hint = "write it as 30s, 5m or 1h30m"
            self.problems.append(Finding(value.place, "", "duration", f"{name}: no duration: {value.text}", hint))
            return None

    def _number(self, value: Value | None) -> int:
        if value is None:
            return 0
        if value.text.isdigit():
            return int(value.text)
        self.problems.append(Finding(value.place, "", "limit", f"no number: {value.text}", "write how many alerts"))
        return 0

    def _unknown(self, key: yaml.Node, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(str(key.value), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(known)}"
        self._problem(key, "", f"unknown key {key.value}", hint, "unknown-key")

    def _problem(self, node: yaml.Node | None, rule: str, message: str, hint: str, check: str = "structure") -> None:
        place = self._source.place(node.start_mark.index) if node is not None else Place(self._source.file)
        self.problems.append(Finding(place, rule, check, message, hint))
