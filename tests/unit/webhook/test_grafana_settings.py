"""Grafana in the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from webhook.config import ConfigError, load_settings
from webhook.grafana_charts import grafana_panels
from webhook.notifiers.registry import Site, build_notifiers

TOKEN = "glsa_secret-token"
WHOLE = """
grafana:
  url: https://grafana.example/sub/
  token_env: GRAFANA_TOKEN
  budget: 4s
  annotations: true
  dashboards:
    CARD_TESTING: {uid: abc, panel: 3, variables: {merchant: "{account_id}"}}
    default: {uid: def, panel: 1}
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(tmp_path / "sentinel.yaml"))
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)


def loaded(tmp_path: Path, text: str) -> Any:
    (tmp_path / "sentinel.yaml").write_text(text)
    return load_settings()


def test_a_whole_section(tmp_path: Path) -> None:
    settings = loaded(tmp_path, WHOLE)
    assert settings.grafana.budget.total_seconds() == 4
    assert settings.grafana.dashboards["default"].variables == {
        "account_id": "{account_id}",
        "alert_type": "{alert_type}",
    }
    assert TOKEN in settings.secrets()
    assert TOKEN not in repr(settings)
    panels = grafana_panels(settings.grafana)
    assert panels is not None
    panels.close()


def test_annotations_go_out_for_every_alert(tmp_path: Path) -> None:
    settings = loaded(tmp_path, WHOLE)
    assert "grafana" in settings.ingest.channels
    built = build_notifiers(["grafana"], settings.channel_options, Site("http://sentinel.example"))
    assert built["grafana"].channel_type == "grafana"


def test_charts_alone_make_no_channel(tmp_path: Path) -> None:
    settings = loaded(tmp_path, WHOLE.replace("annotations: true", "annotations: false"))
    assert "grafana" not in settings.ingest.channels
    assert "grafana" not in settings.channel_options


def test_without_the_section_charts_are_drawn_locally(tmp_path: Path) -> None:
    assert grafana_panels(loaded(tmp_path, "alert_types: {}").grafana) is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("url: https", "url: ftp", "grafana.url"),
        ("token_env: GRAFANA_TOKEN", "token_env: NO_SUCH", "grafana.token_env: the variable NO_SUCH is not set"),
        ("panel: 1", "panel: 0", "grafana.dashboards.default.panel"),
        ("uid: abc", "uid: a/../b", "grafana.dashboards.CARD_TESTING.uid"),
        ("{account_id}", "{secret}", "names 'secret'; there are account_id, alert_type"),
        ("budget: 4s", "budget: 2m", "grafana.budget: must be at most a minute"),
        ("budget: 4s", "budgets: 4s", "grafana.budgets"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, WHOLE.replace(old, new))
    assert any(told in problem for problem in refused.value.problems)
    assert TOKEN not in str(refused.value)
