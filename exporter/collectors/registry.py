"""Source types by their name in the configuration. A module is imported when a source first needs it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from exporter.collectors.base import Collector, SourceConfig
from exporter.errors import Unsupported


@dataclass(frozen=True, slots=True)
class SourceType:
    """Where a type lives: its module in this package, its configuration model, its collector, and its extra, if any."""

    module: str
    config: str
    collector: str
    extra: str | None = None


SOURCE_TYPES = {
    "database": SourceType("database", "DatabaseConfig", "DatabaseCollector"),
    "rest_api": SourceType("rest_api", "RestApiConfig", "RestApiCollector"),
    "bigquery": SourceType("bigquery", "BigQueryConfig", "BigQueryCollector", "bigquery"),
    "file": SourceType("file", "FileConfig", "FileCollector"),
    "gcs_file": SourceType("gcs_file", "GcsFileConfig", "GcsFileCollector", "gcs"),
    "s3_file": SourceType("s3_file", "S3FileConfig", "S3FileCollector", "s3"),
    "kafka": SourceType("kafka", "KafkaConfig", "KafkaCollector", "kafka"),
    "splunk": SourceType("splunk", "SplunkConfig", "SplunkCollector"),
}


def config_model(kind: str) -> type[SourceConfig]:
    """Configuration model of a type; KeyError when there is no such type. Needs none of the type's libraries."""
    source_type = SOURCE_TYPES[kind]
    model: type[SourceConfig] = _load(source_type.module, source_type.config)
    return model


def collector(config: SourceConfig) -> Collector:
    """A collector for the source; Unsupported where the library that it needs is not installed.

    A collector imports such a library when it is made, not with its module: `check` does without.
    """
    source_type = SOURCE_TYPES[config.type]
    try:
        made: Collector = _load(source_type.module, source_type.collector)(config)
    except ModuleNotFoundError as error:
        if source_type.extra is None:
            raise
        raise Unsupported(
            f"sources of type {config.type} need {error.name}, which is not installed: "
            f"pip install 'sentinel[{source_type.extra}]'"
        ) from None
    return made


def _load(module: str, name: str) -> Any:  # noqa: ANN401 - a class, known by its name only
    return getattr(import_module(f"exporter.collectors.{module}"), name)
