"""An exporter inside the test's process."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families
from servers import wait_for

from exporter.app import Exporter
from exporter.config import parse
from exporter.scheduler import Clock

Labels = frozenset[tuple[str, str]]


class Scraped:
    """One scrape, by family and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get(name, {}).get(frozenset(labels.items()))

    def values(self, name: str, label: str) -> dict[str, float]:
        return {dict(labels)[label]: value for labels, value in self.samples.get(name, {}).items()}


@dataclass
class Running:
    exporter: Exporter

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.exporter.url + path, headers=headers, timeout=60)

    def scrape(self) -> Scraped:
        return Scraped(self.get("/metrics").text)

    def wait(self, condition: Callable[[Scraped], object], what: str) -> Scraped:
        def met() -> Scraped | None:
            scraped = self.scrape()
            return scraped if condition(scraped) else None

        found = wait_for(met, what=what, timeout=60)
        assert found is not None
        return found

    def tried(self) -> Scraped:
        """The scrape after every source was tried."""
        wait_for(lambda: self.get("/-/ready").ok, what="every source tried", timeout=60)
        return self.scrape()

    def error(self, source: str = "source") -> tuple[str, str]:
        """Reason and message of a source's last failure."""
        failure = next(state for state in self.exporter._scheduler.states if state.name == source).last_failure
        assert failure is not None
        return failure.reason, failure.message


@contextmanager
def running(sources: str, clock: Clock | None = None) -> Iterator[Running]:
    """Run an exporter with the given `data_sources` until the block ends."""
    text = "exporter: {port: 0, log_level: DEBUG}\ndata_sources:\n" + textwrap.indent(textwrap.dedent(sources), "  ")
    exporter = Exporter(parse(text, "test.yaml"), clock=clock)
    exporter.start()
    try:
        yield Running(exporter)
    finally:
        exporter.stop()
