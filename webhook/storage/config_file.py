"""Merchant configurations from YAML: a list, checked as a whole, every error with its line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from webhook.domain.evaluation import OPERATORS, BadPattern, Condition, MerchantConfig, compile_pattern

_NUMERIC = (">", ">=", "<", "<=")


class ConfigFileError(ValueError):
    """A file that cannot be taken; `problems` has one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ConditionEntry(_Strict):
    metric_name: Annotated[str, Field(min_length=1, max_length=255)]
    operator: str
    threshold: float | str | list[float | str]
    time_window: Annotated[str, Field(max_length=16)] = ""
    priority: int = 0

    @model_validator(mode="after")
    def _operator_fits_threshold(self) -> ConditionEntry:
        threshold = self.threshold
        if self.operator not in OPERATORS:
            raise ValueError(f"operator {self.operator!r} is none of {', '.join(OPERATORS)}")
        if self.operator in _NUMERIC and not isinstance(threshold, float):
            raise ValueError(f"operator {self.operator} wants a number as threshold")
        if (self.operator in ("in", "not_in")) != isinstance(threshold, list):
            raise ValueError("a list as threshold belongs to the operators in and not_in, and to no other")
        if self.operator == "regex":
            _check_pattern(threshold)
        return self


def _check_pattern(pattern: object) -> None:
    try:
        compile_pattern(str(pattern))
    except BadPattern as error:
        raise ValueError(f"threshold: {error}") from error


class FrequencyControl(_Strict):
    max_alerts_per_hour: Annotated[int, Field(ge=0)] = 5
    max_alerts_per_day: Annotated[int, Field(ge=0)] = 20
    min_interval_minutes: Annotated[float, Field(ge=0)] = 0


class NotificationStrategy(_Strict):
    """`first`: when an alert opens; `thresholds`: at these counts; `interval_minutes`: while it lasts, 0 never."""

    first: bool = True
    thresholds: list[Annotated[int, Field(ge=1)]] = []
    interval_minutes: Annotated[float, Field(ge=0)] = 60


class Channel(BaseModel):
    """One channel and whatever else it wants to know, e.g. `channel: "#fraud"` for Slack."""

    model_config = ConfigDict(extra="allow")
    enabled: bool = True


class MerchantEntry(_Strict):
    account_id: Annotated[str, Field(min_length=1, max_length=255)]
    alert_type: Annotated[str, Field(min_length=1, max_length=64)]
    enabled: bool = True
    logic: Literal["all", "any"] = "all"
    trigger_conditions: list[ConditionEntry] = []
    channels: dict[Annotated[str, Field(max_length=32)], Channel] = {}
    frequency_control: FrequencyControl | None = None
    notification_strategy: NotificationStrategy | None = None

    def config(self) -> MerchantConfig:
        settings = self.model_dump(
            mode="json", include={"frequency_control", "notification_strategy"}, exclude_none=True
        )
        return MerchantConfig(
            account_id=self.account_id,
            alert_type=self.alert_type,
            enabled=self.enabled,
            logic=self.logic,
            conditions=tuple(
                Condition(entry.metric_name, entry.operator, entry.threshold, entry.priority, entry.time_window)
                for entry in self.trigger_conditions
            ),
            channel_preferences={name: channel.model_dump(mode="json") for name, channel in self.channels.items()},
            notification_settings=settings,
        )


_FILE = TypeAdapter(list[MerchantEntry])


def read_config_file(path: Path, channels: Collection[str]) -> list[MerchantConfig]:
    """The configurations of a file that name no other `channels`; raise ConfigFileError with all that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        entries = _FILE.validate_python(yaml.safe_load(text))
    except OSError as error:
        raise ConfigFileError([f"{path}: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigFileError([f"{path}: {' '.join(str(error).split())}"]) from error
    except ValidationError as error:
        raise ConfigFileError([_problem(path, node, detail) for detail in error.errors()]) from error
    problems = [*_repeated(path, node, entries), *_unknown_channels(path, node, entries, channels)]
    if problems:
        raise ConfigFileError(problems)
    return [entry.config() for entry in entries]


def _unknown_channels(
    path: Path, node: yaml.Node | None, entries: list[MerchantEntry], channels: Collection[str]
) -> list[str]:
    return [
        f"{path}:{_line(node, (number, 'channels', name))}: unknown channel {name!r}; there are {', '.join(channels)}"
        for number, entry in enumerate(entries)
        for name in entry.channels
        if name not in channels
    ]


def _repeated(path: Path, node: yaml.Node | None, entries: list[MerchantEntry]) -> list[str]:
    seen: dict[tuple[str, str], int] = {}
    problems = []
    for number, entry in enumerate(entries):
        first = seen.setdefault((entry.account_id, entry.alert_type), number)
        if first != number:
            where = f"{path}:{_line(node, (number,))}"
            problems.append(f"{where}: {entry.account_id} {entry.alert_type} is already configured above")
    return problems


def _problem(path: Path, node: yaml.Node | None, detail: ErrorDetails) -> str:
    """`file:line: place: what is wrong`, without the value, which may be a secret."""
    place = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    return f"{path}:{_line(node, detail['loc'])}: {place + ': ' if place else ''}{message}"


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `place` that the file holds, counted from 1."""
    for part in place:
        child = _child(node, part)
        if child is None:
            break
        node = child
    return node.start_mark.line + 1 if node is not None else 1


def _child(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    return None
