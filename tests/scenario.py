"""Samples with times of their own, shown to a Prometheus before they happen: no evaluation can come before its data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import servers
from alert_receiver import serving

from webhook.adapters.prometheus_api import PrometheusApi

Values = Sequence[float | None]
"""One for each step from the beginning; None is no sample."""


@dataclass(frozen=True)
class Live:
    """A Prometheus that has lived through all of it. Times are milliseconds."""

    api: PrometheusApi
    rules: Path
    begin: int
    end: int
    evaluated: list[int]


def shown(metric: str, series: Mapping[str, Values], begin: int, step: int) -> str:
    """An exposition with a sample of every moment."""
    return "".join(
        f'{metric}{{account_id="{account}",pod="{pod}"}} {value!r} {begin + index * step}\n'
        for account, values in series.items()
        for pod in ("a", "b")
        for index, value in enumerate(values)
        if value is not None
    )


@contextlib.contextmanager
def lived_through(
    folder: Path, rules: str, text: Callable[[int], str], length: int, *flags: str, lead: int = 4000
) -> Iterator[Live]:
    """`text(begin)` is shown `lead` before it begins. A rule `test:evaluated` tells when Prometheus evaluated."""
    exposed = {"text": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposed["text"].encode()
            with contextlib.suppress(OSError):  # Prometheus had no patience
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as address:
        (folder / "rules").mkdir()
        path = folder / "rules" / "tested.yml"
        path.write_text(rules)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}\n"
            "rule_files: [rules/*.yml]\n"
            f"scrape_configs: [{{job_name: a, static_configs: [{{targets: ['{address}']}}]}}]\n"
        )
        with servers.prometheus(folder / "prometheus.yml", *flags) as url:
            api = PrometheusApi(url, timeout=60)
            servers.wait_for(lambda: api.samples("test:evaluated", _now()), what="evaluated")
            begin = _shown_before(api, exposed, text, length, lead)
            servers.wait_for(
                lambda: (_evaluations(api, begin, length) or [0])[-1] >= begin + length - 2000, what="the end"
            )
            yield Live(api, path, begin, begin + length, _evaluations(api, begin, length))
            api.close()


def _shown_before(
    api: PrometheusApi, exposed: dict[str, str], text: Callable[[int], str], length: int, lead: int
) -> int:
    """When it begins; a machine that was too busy to store it in time has another one, after the first."""
    end = 0
    while True:
        begin = max(_now(), end) + lead
        end = begin + length
        exposed["text"] = text(begin)
        servers.wait_for(partial(_stored, api, end), what="samples are stored")
        if _now() < begin:
            return begin


def _over(api: PrometheusApi, begin: int, length: int) -> bool:
    return max(_evaluations(api, begin, length), default=0) >= begin + length - 2000


def _now() -> int:
    return time.time_ns() // 1_000_000


def _stored(api: PrometheusApi, at: int) -> bool:
    return bool(api.samples("sentinel_block_rate", at - 200))


def _evaluations(api: PrometheusApi, begin: int, length: int) -> list[int]:
    found = api.samples(f"test:evaluated[{length // 1000}s]", begin + length)
    return [time for _, points in found for time, _ in points if time >= begin]
