"""The configuration file: read, checked as a whole, and turned into models. All problems are told at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.collectors.base import SourceConfig
from exporter.collectors.registry import SOURCE_TYPES, config_model
from exporter.environment import Secrets
from exporter.errors import ConfigError, Problem
from exporter.located import Located
from exporter.mapping.families import taken_names
from exporter.mapping.spec import MetricConfig
from exporter.server_config import ServerConfig

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ExporterConfig:
    """A whole, valid configuration. `sources` are in the order of the file, disabled ones included.

    `written` is what stands in the file, references not replaced.
    """

    server: ServerConfig
    sources: tuple[SourceConfig, ...]
    written: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def enabled(self) -> tuple[SourceConfig, ...]:
        return tuple(source for source in self.sources if source.enabled)

    def listening_on(self, port: int) -> ExporterConfig:
        """The same configuration on another port."""
        return replace(self, server=self.server.model_copy(update={"port": port}))


def load(path: Path) -> ExporterConfig:
    """Read and check a file; ConfigError with every problem."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), 1, "", "is no UTF-8 text: save it as UTF-8")]) from None
    return parse(text, str(path))


def parse(text: str, file: str) -> ExporterConfig:
    """Check a configuration's text; `file` is its name in messages."""
    document = Located(text, file)
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError([Problem(file, 1, "", "is empty or no mapping: it needs `exporter:` and `data_sources:`")])
    unreadable = {(problem.line, problem.path) for problem in document.problems}
    problems: list[Problem] = []
    top = ("exporter", "data_sources")
    problems += [document.problem([key], _unknown(key, top)) for key in data if key not in top]
    server = _validated(ServerConfig, data.get("exporter") or {}, ["exporter"], document, problems)
    sources = _sources(data.get("data_sources"), document, problems)
    problems += _conflicts(sources, document)
    problems = [each for each in problems if (each.line, each.path) not in unreadable] + document.problems
    if problems or server is None:
        secrets = Secrets()
        secrets.hide_references(text)
        raise ConfigError([replace(problem, message=secrets.redact(problem.message)) for problem in problems])
    return ExporterConfig(server, tuple(sources.values()), data)


def notices(config: ExporterConfig, environ: Mapping[str, str]) -> list[str]:
    """What is valid but will not work here: variables that are not set."""
    found = []
    absent = [name for name in dict.fromkeys(config.server.needs()) if name not in environ]
    if absent:
        found.append(f"exporter.auth: needs {', '.join(absent)}, which is not set in this environment")
    for source in config.enabled:
        missing = [name for name in dict.fromkeys(source.needs()) if name not in environ]
        if missing:
            found.append(f"source {source.name}: needs {', '.join(missing)}, which is not set in this environment")
    return found + _overlaps(config)


def _overlaps(config: ExporterConfig) -> list[str]:
    """Sources that feed one family with the same labels, of which Prometheus would take only one sample each."""
    found = []
    first: dict[tuple[str, frozenset[str], frozenset[tuple[str, str]]], str] = {}
    for source in config.enabled:
        for metric in source.metrics:
            key = metric.prometheus_name, frozenset(metric.labels), frozenset(source.labels.items())
            other = first.setdefault(key, source.name)
            if other != source.name:
                message = f"sources {other} and {source.name} give {metric.prometheus_name} the same labels"
                found.append(f"{message}: if samples can be alike, give each source a static label of its own")
    return found


def _sources(data: object, document: Located, problems: list[Problem]) -> dict[int, SourceConfig]:
    """Valid sources by their position in the file."""
    if not isinstance(data, list) or not data:
        what = "is no list" if data else "has no sources"
        problems.append(document.problem(["data_sources"], f"{what}: list at least one source, each starting with -"))
        return {}
    sources: dict[int, SourceConfig] = {}
    for position, item in enumerate(data):
        path: list[str | int] = ["data_sources", position]
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(item, dict):
            problems.append(document.problem(path, "is no mapping: a source has name, type, metrics and more"))
        elif not isinstance(kind, str):
            problems.append(document.problem([*path, "type"], f"type is missing: use one of {', '.join(SOURCE_TYPES)}"))
        elif kind not in SOURCE_TYPES:
            problems.append(document.problem([*path, "type"], _not_one_of(kind, tuple(SOURCE_TYPES))))
        else:
            source = _validated(config_model(kind), item, path, document, problems)
            if source is not None:
                sources[position] = source
    return sources


def _validated(
    model: type[Model], data: object, path: list[str | int], document: Located, problems: list[Problem]
) -> Model | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            at = [*path, *_as_written(details["loc"], data)]
            problems.append(document.problem(at, _explain(details, model)))
    return None


def _as_written(path: tuple[str | int, ...], data: object) -> list[str | int]:
    """A problem's path as the file has it.

    Without the `type` by which one of several models was chosen, and no further than to a plain value, which may be
    short for a mapping.
    """
    kept: list[str | int] = []
    for part in path:
        if data is not None and not isinstance(data, dict | list):
            break
        if part == "[key]" or (isinstance(data, dict) and data.get("type") == part and part not in data):
            continue
        kept.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return kept


def _explain(details: ErrorDetails, model: type[BaseModel]) -> str:
    """A problem in words that say what to do. Shows no value that could be a secret."""
    kind, context, key = details["type"], details.get("ctx", {}), details["loc"][-1] if details["loc"] else ""
    if kind == "extra_forbidden":
        return _unknown(str(key), _keys(model, details["loc"][:-1]))
    if kind == "literal_error":
        return _not_one_of(
            details["input"], str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        )
    if kind == "value_error":
        return str(context["error"])
    words = {
        "missing": f"is missing: add {key}",
        "string_type": "must be text: put it in quotes",
        "string_pattern_mismatch": "has characters that are not allowed: use letters, digits and _ . : -",
        "string_too_short": "is empty: fill it in",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list, each entry starting with -",
        "list_type": "must be a list, each entry starting with -",
        "dict_type": "must be a mapping of keys to values",
        "model_type": "must be a mapping of keys to values",
        "model_attributes_type": "must be a mapping of keys to values",
    }
    return words.get(kind, details["msg"])


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that the model at `path` below `model` has; of several models, the path says the type of one."""
    models = [model]
    for part in path:
        if len(models) > 1:
            models = [one for one in models if part in get_args(one.model_fields["type"].annotation)] or models
        elif models and part in models[0].model_fields:
            models = _inner_models(models[0].model_fields[str(part)].annotation)
    return tuple(models[0].model_fields) if models else ()


def _inner_models(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - whatever a field is annotated with
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _inner_models(argument)]


def _unknown(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(known)}"
    return f"unknown key: {hint}"


def _not_one_of(value: object, choices: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f", did you mean {near[0]}" if near else ""
    return f"{value!r} is not possible{hint}: use one of {', '.join(choices)}"


def _conflicts(sources: Mapping[int, SourceConfig], document: Located) -> list[Problem]:
    """Names that stand twice, and metrics that disagree about one family."""
    problems = []
    names: dict[str, int] = {}
    for position, source in sources.items():
        if source.name in names:
            line = document.line(["data_sources", names[source.name]])
            message = f"another source, in line {line}, has the name {source.name}: names must differ"
            problems.append(document.problem(["data_sources", position, "name"], message))
        names.setdefault(source.name, position)
    return problems + _disagreements(sources, document)


@dataclass(frozen=True, slots=True)
class _Place:
    """A metric, and where it stands in the file."""

    source: SourceConfig
    metric: MetricConfig
    path: Sequence[str | int]

    def labels(self) -> list[str]:
        """Names of the labels that each sample has."""
        return sorted({*self.source.labels, *self.metric.labels})


def _disagreements(sources: Mapping[int, SourceConfig], document: Located) -> list[Problem]:
    """What a metric says of its family unlike the first metric that has it; told at both places."""
    problems: list[Problem] = []
    first: dict[str, _Place] = {}
    taken: dict[str, _Place] = {}
    helps: dict[str, _Place] = {}
    for position, source in sources.items():
        for index, metric in enumerate(source.metrics):
            name = metric.prometheus_name
            here = _Place(source, metric, ["data_sources", position, "metrics", index])
            other = first.setdefault(name, here)
            if metric.help:
                problems += _unlike(here, helps.setdefault(name, here), document, ["help"])
            problems += _unlike(here, other, document, ["type", "labels", "buckets"])
            if other is here:
                problems += _clash(here, taken, document)
    return problems


def _unlike(here: _Place, there: _Place, document: Located, keys: Sequence[str]) -> list[Problem]:
    """Of the given keys, what two metrics of one family say differently."""
    said = {
        "type": (here.metric.type, there.metric.type),
        "help": (here.metric.help, there.metric.help),
        "labels": (_listed(here.labels()), _listed(there.labels())),
        "buckets": (_bounds(here.metric), _bounds(there.metric)) if here.metric.type == there.metric.type else ("", ""),
    }
    name, place = here.metric.prometheus_name, f"source {there.source.name}, line {document.line(there.path)}"
    problems = []
    for key in keys:
        ours, theirs = said[key]
        if ours != theirs:
            message = f"{name} has {key} {ours} here and {theirs} in {place}: make them agree"
            problems.append(document.problem([*here.path, key], message))
    return problems


def _clash(here: _Place, taken: dict[str, _Place], document: Located) -> list[Problem]:
    """A family whose samples OpenMetrics could not tell from those of another family."""
    name, kind = here.metric.prometheus_name, here.metric.type
    others = [taken.setdefault(own, here) for own in sorted(taken_names(name, kind))]
    for other in others:
        if other is not here:
            place = f"the {other.metric.type} {other.metric.prometheus_name} of source {other.source.name}"
            message = f"the {kind} {name} cannot be told from {place}, line {document.line(other.path)}"
            return [document.problem([*here.path, "prometheus_name"], f"{message}, in OpenMetrics: rename one")]
    return []


def _bounds(metric: MetricConfig) -> str:
    """The upper bounds of a histogram, of which the last one is always served; none for the other types."""
    return _listed([str(bound) for bound in sorted({*metric.buckets.values(), math.inf})] if metric.buckets else [])


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "none"
