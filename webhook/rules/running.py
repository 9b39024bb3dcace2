"""Rules as they stand in a file beside those that a Prometheus runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath

import promql_parser
import yaml

from webhook.adapters.prometheus_api import PrometheusApi, RunningGroup, RunningRule
from webhook.rules.document import Group, Rule, RuleFile, Value, seconds
from webhook.rules.promql import text_of

_USUAL = 60.0
"""Prometheus' own evaluation interval in seconds, where its configuration says nothing."""

_TO_THE_MS = 5e-4


def default_interval(api: PrometheusApi) -> float:
    """Seconds between evaluations of a group that names no interval."""
    try:
        told: Mapping[str, str] = (yaml.safe_load(api.config()) or {}).get("global") or {}
        return seconds(str(told.get("evaluation_interval", "1m")))
    except (yaml.YAMLError, AttributeError, ValueError):
        return _USUAL


def of_file(groups: Sequence[RunningGroup], name: str) -> list[RunningGroup]:
    """Those of the file of this name: Prometheus may know its folder by another path."""
    return [group for group in groups if PurePosixPath(group.file).name == name]


def differences(file: RuleFile, groups: Sequence[RunningGroup], usual: float) -> list[str]:
    """What of the file does not run as it is written; `usual` seconds is the interval of a group that names none."""
    running = {group.name: group for group in groups}
    found = [f"the group {name} still runs" for name in running.keys() - {group.name.text for group in file.groups}]
    for group in file.groups:
        there = running.get(group.name.text)
        found += [f"the group {group.name.text} does not run"] if there is None else _of_group(group, there, usual)
    return found


def unhealthy(groups: Sequence[RunningGroup], since: datetime | None = None) -> list[str]:
    """What fails of them, or was not evaluated since then, by the clock of their Prometheus."""
    found = [
        f"{rule.name} is {rule.health}" for group in groups for rule in group.rules if rule.health != "ok" or rule.error
    ]
    return found + [
        f"the group {group.name} has not been evaluated since"
        for group in groups
        if since is not None and group.rules and (group.evaluated is None or group.evaluated < since)
    ]


def failing(groups: Sequence[RunningGroup], since: datetime) -> str:
    """What failed in an evaluation since then. A group that a reload leaves as it was keeps its errors from before."""
    evaluated = [group for group in groups if group.evaluated is not None and group.evaluated >= since]
    rules = [rule for group in evaluated for rule in group.rules]
    return next((f"{rule.name} fails: {rule.error}" for rule in rules if rule.health == "err" or rule.error), "")


def unseen(file: RuleFile) -> bool:
    """Whether it sets what the API does not show, so that nobody can say whether it runs."""
    return any(group.offset for group in file.groups)


def _of_group(group: Group, there: RunningGroup, usual: float) -> list[str]:
    name, found = group.name.text, list[str]()
    interval = group.interval or usual
    if not _same(there.interval, interval):
        found.append(f"the group {name} is evaluated every {there.interval:g} s, not every {interval:g} s")
    if there.limit != group.limit:
        found.append(f"the group {name} has a limit of {there.limit}, not of {group.limit}")
    if [(rule.kind, rule.name.text) for rule in group.rules] != [(rule.kind, rule.name) for rule in there.rules]:
        return [*found, f"the group {name} runs other rules"]
    for rule, runs in zip(group.rules, there.rules, strict=True):
        if parts := _of_rule(rule, runs):
            found.append(f"{runs.name} runs with another {', '.join(parts)}")
    return found


def _of_rule(rule: Rule, runs: RunningRule) -> list[str]:
    """Names of the fields that differ."""
    labels = _texts(rule.group.labels) | _texts(rule.labels)
    same = {
        "expr": _spelled(rule.expr.text) == _spelled(runs.query),
        "for": _same(rule.duration("for"), runs.duration),
        "keep_firing_for": _same(rule.duration("keep_firing_for"), runs.keep),
        "labels": labels == {key: text for key, text in runs.labels.items() if text},
        "annotations": _texts(rule.annotations) == {key: text for key, text in runs.annotations.items() if text},
    }
    return [name for name, equal in same.items() if not equal]


def _texts(values: Mapping[str, Value]) -> dict[str, str]:
    """An empty label is none."""
    return {name: value.text for name, value in values.items() if value.text}


def _same(one: float, other: float) -> bool:
    return abs(one - other) < _TO_THE_MS


def _spelled(query: str) -> str:
    try:
        return text_of(promql_parser.parse(query))
    except ValueError:
        return "".join(query.split())
