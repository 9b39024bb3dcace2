"""What tells one configuration from another: the same for the same values, whatever the file's layout and comments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from exporter.collectors.base import SourceConfig
from exporter.config import ExporterConfig

_EXACT_IN_FLOAT = 6  # bytes: Prometheus' values are floats, of which integers up to 53 bits are exact


def of_source(source: SourceConfig) -> str:
    """Of all of a source's keys. Secrets are no part of a configuration, so none is in here."""
    return _digest(_plain(source), 16).hex()


def of_config(config: ExporterConfig) -> int:
    """Of what is written in the file, as a number that a metric can hold, as Alertmanager tells its configuration's.

    Options of the command line and the values of variables are no part of it: they differ between replicas and shards
    of one configuration.
    """
    return int.from_bytes(_digest(_named(config.written), _EXACT_IN_FLOAT), "big")


def _named(values: Any) -> Any:  # noqa: ANN401 - anything that YAML can hold
    """The same with text for all that JSON has no name for, dates and keys that are numbers among them."""
    if isinstance(values, Mapping):
        return {str(key): _named(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_named(value) for value in values]
    return values if isinstance(values, str | int | float | bool | None) else str(values)


def _plain(source: SourceConfig) -> Any:  # noqa: ANN401 - anything that JSON can hold
    return source.model_dump(mode="json", serialize_as_any=True)


def _digest(values: Any, size: int) -> bytes:  # noqa: ANN401 - anything that JSON can hold
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=size).digest()
