"""Which metrics there are, of which type and with which labels: from sources, programs, rules, and Prometheus."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
_OF_A_SCRAPE = frozenset({"job", "instance"})


class ConfigUnreadableError(Exception):
    """The exporter's configuration cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A series' name and type (`gauge`, `counter`, …). `labels` are those that every sample has; None is unknown."""

    name: str
    type: str
    labels: frozenset[str] | None = None


class Metrics:
    """All that are known. `complete` is False where nobody said what sources export: then a name may be theirs."""

    def __init__(self, metrics: Iterable[Metric], *, complete: bool = True) -> None:
        self._by_name = {metric.name: metric for metric in metrics}
        self.complete = complete

    def get(self, name: str) -> Metric | None:
        return self._by_name.get(name)

    def near(self, name: str, others: Iterable[str] = ()) -> str | None:
        """The name among them and others that is most like it."""
        found = difflib.get_close_matches(name, [*self._by_name, *others], n=1, cutoff=0.75)
        return found[0] if found else None

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._by_name.values())


@cache
def own_metrics() -> Sequence[Metric]:
    """Of the exporter, the webhook, its worker, Prometheus and Alertmanager."""
    text = files("webhook.rules").joinpath("known_metrics.yaml").read_text("utf-8")
    programs: dict[str, dict[str, str]] = yaml.safe_load(text)
    return [
        metric
        for families in programs.values()
        for names, kind in families.items()
        for metric in family(names, kind, None)
    ]


def source_metrics(config: Path) -> list[Metric]:
    """What an exporter with this configuration serves of its sources; raise ConfigUnreadableError.

    Read by the documented keys: a source that is switched off counts too, since its rules stay.
    """
    try:
        document = yaml.safe_load(config.read_text("utf-8"))
        return [metric for source in document["data_sources"] for metric in _of_source(source)]
    except OSError as error:
        raise ConfigUnreadableError(f"{config}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        hint = f"see `sentinel-exporter check --config {config}`"
        raise ConfigUnreadableError(f"{config}: is no valid configuration of the exporter: {hint}") from None


def _of_source(source: Mapping[str, Any]) -> Iterator[Metric]:
    given = frozenset(source.get("labels") or ())
    for metric in source["metrics"]:
        kind = metric.get("type", "gauge")
        name: str = metric["prometheus_name"]
        labels = given | frozenset(metric.get("labels") or ()) | ({name} if kind == "stateset" else frozenset())
        yield from family(name, kind, labels | _OF_A_SCRAPE)


def family(name: str, kind: str, labels: frozenset[str] | None) -> Iterator[Metric]:
    """The series of a metric family, each under its own name."""
    for suffix in _PARTS.get(kind, ("",)):
        own = labels if suffix != "_bucket" or labels is None else labels | {"le"}
        yield Metric(f"{name}{suffix}", "counter" if suffix else kind, own)
