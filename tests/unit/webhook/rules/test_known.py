from __future__ import annotations

from pathlib import Path

import pytest

from webhook.rules.known import ConfigUnreadableError, source_metrics

ROOT = Path(__file__).resolve().parents[4]


def test_what_an_exporters_configuration_serves() -> None:
    found = {metric.name: metric for metric in source_metrics(ROOT / "demo" / "exporter-config.yaml")}
    rate = found["sentinel_block_rate"]
    assert (rate.type, rate.labels) == ("gauge", {"account_id", "merchant_name", "region", "job", "instance"})
    assert "sentinel_failed_auth_rate" in found


def test_types_of_families_are_series(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "data_sources: [{labels: {env: a}, metrics: [{prometheus_name: s, type: histogram, labels: [x]},"
        " {prometheus_name: st, type: stateset, states: [on]}, {prometheus_name: i_info, type: info, labels: {a: b}}]}]"
    )
    found = {metric.name: metric for metric in source_metrics(tmp_path / "c.yaml")}
    assert found["s_bucket"].labels == {"env", "x", "le", "job", "instance"}
    assert found["s_count"].type == "counter"
    assert found["st"].labels == {"env", "st", "job", "instance"}
    assert "a" in (found["i_info"].labels or ())


@pytest.mark.parametrize("text", ["", "a: [", "data_sources: 3", "data_sources: [{}]"])
def test_a_configuration_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigUnreadableError, match="sentinel-exporter check"):
        source_metrics(tmp_path / "c.yaml")
