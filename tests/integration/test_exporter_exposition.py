"""Every metric type in both formats, as a real Prometheus and promtool read them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import polars as pl
import pytest
import requests
from servers import prometheus, wait_for
from servers_http import served as serving

from exporter.exposition import CONTENT_TYPES, EOF, Block, Exposition, Family, Form
from exporter.mapping.render import render
from exporter.mapping.spec import MetricConfig, SeriesSpec

NASTY = 'Café "Olé" \\ 💳\nline } # EOF'
FRAME = pl.DataFrame(
    {
        "shop": [NASTY, "b", "c"],
        "rate": ["12.5%", "NaN", None],
        "paid": [2**62, 7, 0],
        "fast": [1, 2, 3],
        "slow": [4, 2, 3],
        "all": [4, 5, 3],
        "spent": [10.5, 1.0, 0.0],
        "state": ["open", "closed", "lost"],
    }
)
METRICS = (
    MetricConfig(source_field="rate", prometheus_name="shop_rate", parse="percent", null="nan", labels=["shop"]),
    MetricConfig(source_field="paid", prometheus_name="pay_total", type="counter", labels=["shop"], help='"x" \\ y'),
    MetricConfig(
        prometheus_name="pay_seconds", type="histogram", buckets={"fast": 0.5, "slow": 1e6}, count="all", sum="spent",
        labels=["shop"],
    ),
    MetricConfig(prometheus_name="shop_info", type="info", labels={"shop": "shop", "state": "state"}),
    MetricConfig(
        source_field="state", prometheus_name="shop_state", type="stateset", states=("open", "closed"), labels=["shop"]
    ),
)  # fmt: skip
TYPES: dict[Form, dict[str, str]] = {
    "text": {"shop_rate": "gauge", "pay_total": "counter", "pay_seconds": "histogram", "shop_info": "gauge",
             "shop_state": "gauge"},
    "openmetrics": {"shop_rate": "gauge", "pay": "counter", "pay_seconds": "histogram", "shop": "info",
                    "shop_state": "stateset"},
}  # fmt: skip


def served(form: Form, *, gzip: bool) -> bytes:
    rendered = render(FRAME, SeriesSpec(METRICS, labels={"env": 'p"1'}))
    assert [warning.reason for warning in rendered.warnings] == ["unknown_state"]
    families = [Family(metric.prometheus_name, metric.type, metric.help_text("shop")) for metric in METRICS]
    exposition = Exposition(families, ["shop"])
    exposition.publish("shop", {family.name: Block.of(family.text) for family in rendered.families})
    page = exposition.page(form)
    return b"".join((page.then(EOF) if form == "openmetrics" else page).parts(gzip=gzip))


@contextmanager
def target() -> Iterator[str]:
    """A server of `/text` and `/openmetrics`; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            form: Form = "openmetrics" if self.path == "/openmetrics" else "text"
            gzip = "gzip" in self.headers.get("Accept-Encoding", "")
            body = served(form, gzip=gzip)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPES[form])
            self.send_header("Content-Length", str(len(body)))
            if gzip:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped both formats."""
    with target() as address:
        config = tmp_path_factory.mktemp("exposition") / "prometheus.yml"
        jobs = "".join(
            f"  - {{job_name: {form}, metrics_path: /{form}, static_configs: [{{targets: ['{address}']}}]}}\n"
            for form in CONTENT_TYPES
        )
        config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
        with prometheus(config) as url:
            wait_for(lambda: len(values(url, "up == 1")) == len(CONTENT_TYPES), what="both formats scraped", timeout=60)
            yield url


def values(url: str, query: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=60).json()
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


@pytest.mark.parametrize("form", list(CONTENT_TYPES))
def test_prometheus_takes_every_sample_of_every_type(scraped: str, form: Form) -> None:
    labels = {"job": form, "env": 'p"1'}

    def value(name: str, **more: str) -> str:
        """A sample of the row with the nasty name."""
        everything = labels | more | {"shop": NASTY}
        all_of_name = values(scraped, f'{name}{{job="{form}"}}')
        found = [each["value"][1] for each in all_of_name if everything.items() <= each["metric"].items()]
        assert len(found) == 1, all_of_name
        return str(found[0])

    assert value("shop_rate") == "0.125"
    assert float(value("pay_total")) == 2**62
    assert [value("pay_seconds_bucket", le=le) for le in ("0.5", "1e+06", "+Inf")] == ["1", "4", "4"]
    assert (value("pay_seconds_sum"), value("pay_seconds_count")) == ("10.5", "4")
    assert value("shop_info", state="open") == "1"
    assert [value("shop_state", shop_state=state) for state in ("open", "closed")] == ["1", "0"]
    (count,) = values(scraped, f'scrape_samples_scraped{{job="{form}"}}')
    (added,) = values(scraped, f'scrape_samples_post_metric_relabeling{{job="{form}"}}')
    assert count["value"][1] == added["value"][1] == "30"
    (quantile,) = values(scraped, f'histogram_quantile(0.5, pay_seconds_bucket{{job="{form}", shop="b"}})')
    assert 0 < float(quantile["value"][1]) <= 1e6


@pytest.mark.parametrize("form", list(CONTENT_TYPES))
def test_prometheus_knows_each_familys_type_and_help(scraped: str, form: Form) -> None:
    found = requests.get(
        f"{scraped}/api/v1/targets/metadata", params={"match_target": f'{{job="{form}"}}'}, timeout=60
    ).json()["data"]
    assert {entry["metric"]: entry["type"] for entry in found} == TYPES[form]
    helps = {entry["metric"]: entry["help"] for entry in found}
    assert helps["pay_total" if form == "text" else "pay"] == '"x" \\ y'


def test_promtool_has_nothing_to_say_of_the_text_format() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=served("text", gzip=False), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
