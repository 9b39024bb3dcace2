"""Source types by their name in the configuration. A module is imported when a source first needs it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from exporter.collectors.base import Collector, SourceConfig
from exporter.errors import Unsupported


@dataclass(frozen=True, slots=True)
class SourceType:
    """Where a type lives: its module in this package, its configuration model, and its collector, if there is one."""

    module: str
    config: str
    collector: str | None


SOURCE_TYPES = {
    "database": SourceType("database", "DatabaseConfig", "DatabaseCollector"),
    "rest_api": SourceType("rest_api", "RestApiConfig", "RestApiCollector"),
    "bigquery": SourceType("bigquery", "BigQueryConfig", None),
    "gcs_file": SourceType("gcs_file", "GcsFileConfig", None),
}


def config_model(kind: str) -> type[SourceConfig]:
    """Configuration model of a type; KeyError when there is no such type."""
    source_type = SOURCE_TYPES[kind]
    model: type[SourceConfig] = _load(source_type.module, source_type.config)
    return model


def supported(kind: str) -> bool:
    """Whether this version can collect the type, not only check its configuration."""
    return SOURCE_TYPES[kind].collector is not None


def collector(config: SourceConfig) -> Collector:
    """A collector for the source; Unsupported where this version has none."""
    source_type = SOURCE_TYPES[config.type]
    if source_type.collector is None:
        raise Unsupported(f"this version cannot collect sources of type {config.type} yet")
    made: Collector = _load(source_type.module, source_type.collector)(config)
    return made


def _load(module: str, name: str) -> Any:  # noqa: ANN401 - a class, known by its name only
    return getattr(import_module(f"exporter.collectors.{module}"), name)
