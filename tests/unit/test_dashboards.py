"""The dashboards as files: made by the code, whole, and in agreement with provisioning, documentation and settings."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from dashboard_queries import panel_queries, variable_queries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from servers import program

from grafana.__main__ import DASHBOARDS, FOLDER
from grafana.attack import PANELS
from grafana.rule_limits import rule_limits
from grafana.slo import PROMISES
from webhook.grafana_settings import DashboardPanel, GrafanaSettings

ROOT = Path(__file__).resolve().parents[2]
Model = dict[str, Any]
MODELS: dict[str, Model] = {name: json.loads(make()) for name, make in DASHBOARDS.items()}
every = pytest.mark.parametrize("name", MODELS)


def panels(model: Model) -> list[Model]:
    return [panel for panel in model["panels"] if panel["type"] != "row"]


def without_empty(part: Any) -> Any:
    """The model of the SDK has its own way of writing what is not set."""
    if isinstance(part, dict):
        return {key: without_empty(value) for key, value in part.items() if value not in (None, [], {}, "")}
    return [without_empty(value) for value in part] if isinstance(part, list) else part


@every
def test_the_committed_file_is_the_one_that_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text("utf-8") == DASHBOARDS[name](), "run `make dashboards`"


def test_no_other_files_are_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in DASHBOARDS}


@every
def test_the_model_of_grafana_reads_it_and_writes_the_same(name: str) -> None:
    read = Dashboard.from_json(MODELS[name])
    assert without_empty(json.loads(json.dumps(read, cls=JSONEncoder))) == without_empty(MODELS[name])


@every
def test_panels_stand_beside_each_other_without_a_gap(name: str) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in MODELS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert set(taken.values()) == {1}


@every
def test_each_panel_says_what_it_is_for(name: str) -> None:
    model = MODELS[name]
    assert model["description"]
    for panel in panels(model):
        assert panel["title"]
        assert len(panel["description"]) >= 10, panel["title"]
        assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "table", panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@every
def test_ids_and_titles_are_unique(name: str) -> None:
    ids = [panel["id"] for panel in MODELS[name]["panels"]]
    assert len(ids) == len(set(ids))
    titles = [(panel["type"], panel["title"]) for panel in panels(MODELS[name])]
    assert len(titles) == len(set(titles))
    refs = [[target["refId"] for target in panel["targets"]] for panel in panels(MODELS[name])]
    assert all(len(each) == len(set(each)) for each in refs)


@every
def test_each_dashboard_leads_to_the_others_with_what_is_chosen(name: str) -> None:
    (link,) = MODELS[name]["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(MODELS[name]["tags"])


@every
def test_variables_that_queries_name_are_there(name: str) -> None:
    declared = {variable["name"] for variable in MODELS[name]["templating"]["list"]}
    text = json.dumps([MODELS[name]["panels"], MODELS[name]["annotations"]])
    used = {a or b for a, b in re.findall(r"\$(?:\{(\w+)[^}]*\}|(\w+))", text)}
    assert {word for word in used if not word.startswith("__")} <= declared
    assert declared - {"datasource"} <= used, "a variable that changes nothing"


@every
def test_links_lead_to_dashboards_that_are_there(name: str) -> None:
    uids = {model["uid"]: model for model in MODELS.values()}
    for address in re.findall(r'"url": "([^"]+)"', json.dumps(MODELS[name])):
        where = urlsplit(address)
        assert where.path.startswith("/d/")
        variables = {variable["name"] for variable in uids[where.path.removeprefix("/d/")]["templating"]["list"]}
        assert {each.partition("=")[0][4:] for each in where.query.split("&") if each.startswith("var-")} <= variables


def test_uids_are_the_addresses_that_people_have_bookmarked() -> None:
    assert {name: model["uid"] for name, model in MODELS.items()} == {
        name: f"sentinel-{name}" for name in ("attack", "delivery", "exporter", "merchants", "pipeline", "slo")
    }


# ---- the attack view, of which messages have pictures ---------------------------------------------------


def test_the_ids_of_pictures_never_change() -> None:
    ids = {panel["title"]: panel["id"] for panel in panels(MODELS["attack"])}
    assert PANELS == {
        "default": 1,
        "CARD_TESTING": 2,
        "VELOCITY_ATTACK": 3,
        "ACCOUNT_TAKEOVER": 4,
        "CHARGEBACK_FRAUD": 5,
        "ANOMALY_DETECTION": 6,
        "BLOCK_SURGE": 7,
    }
    assert set(PANELS.values()) <= set(ids.values())


def documented() -> GrafanaSettings:
    text = (ROOT / "docs" / "channels.md").read_text("utf-8")
    (found,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if block.startswith("grafana:")]
    options = yaml.safe_load(found)["grafana"]
    del options["token_env"]
    return GrafanaSettings.model_validate({**options, "token": "t"})


def test_the_documented_settings_are_those_of_the_attack_view() -> None:
    settings = documented()
    assert {name: panel.panel for name, panel in settings.dashboards.items()} == PANELS
    assert {panel.uid for panel in settings.dashboards.values()} == {MODELS["attack"]["uid"]}


def test_without_variables_a_picture_chooses_those_of_the_attack_view() -> None:
    chosen = DashboardPanel(uid="sentinel-attack", panel=1).variables
    declared = {variable["name"] for variable in MODELS["attack"]["templating"]["list"]} - {"datasource"}
    assert set(chosen) == declared


def fraud_types() -> Iterator[str]:
    for file in sorted((ROOT / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                kind = rule.get("labels", {}).get("alert_type", "OPERATIONS")
                if kind != "OPERATIONS":
                    yield kind


def test_each_type_that_rules_fire_has_a_picture_of_its_own() -> None:
    assert set(fraud_types()) == set(PANELS) - {"default"}


def test_the_lines_drawn_are_those_of_the_rules() -> None:
    panel = next(panel for panel in panels(MODELS["attack"]) if panel["id"] == PANELS["CARD_TESTING"])
    _, *steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [(0.2, "yellow"), (0.3, "orange"), (0.5, "red")]
    with pytest.raises(LookupError, match="threshold_nothing"):
        rule_limits("CARD_TESTING", "nothing")


def test_annotations_are_those_of_the_webhook() -> None:
    """The tags that webhook/notifiers/grafana.py writes."""
    for name, model in MODELS.items():
        (annotation,) = model["annotations"]["list"]
        assert annotation["datasource"]["uid"] == "-- Grafana --"
        assert annotation["target"]["tags"] == (["sentinel", "$account_id"] if name == "attack" else ["sentinel"])
        assert (annotation["target"]["type"], annotation["target"]["matchAny"]) == ("tags", False)


# ---- queries; whether they are answered: tests/e2e/test_dashboards.py -------------------------------------


@every
def test_promtool_accepts_every_query(name: str, tmp_path: Path) -> None:
    asked = [*panel_queries(MODELS[name]), *variable_queries(MODELS[name])]
    rules = [{"record": f"panel:q{number}", "expr": query.expression} for number, query in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(file)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- provisioning ----------------------------------------------------------------------------------------


def provisioned(kind: str) -> Model:
    found: Model = yaml.safe_load((ROOT / "grafana" / "provisioning" / kind / "sentinel.yml").read_text())
    return found


def test_the_data_source_is_the_one_that_dashboards_choose() -> None:
    sources = {source["uid"]: source for source in provisioned("datasources")["datasources"]}
    for model in MODELS.values():
        (variable,) = [each for each in model["templating"]["list"] if each["type"] == "datasource"]
        chosen = sources[variable["current"]["value"]]
        assert (chosen["type"], chosen["name"]) == (variable["query"], variable["current"]["text"])
    scraped = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert sources["sentinel-prometheus"]["jsonData"]["timeInterval"] == scraped


def test_dashboards_are_looked_for_where_they_are_mounted() -> None:
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_what_is_promised_is_what_the_rules_record() -> None:
    groups = yaml.safe_load((ROOT / "prometheus" / "rules" / "slo.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "promise" in rule.get("labels", {})]
    allowed = {
        rule["labels"]["promise"]: float(rule["expr"].split(" * ")[0])
        for rule in rules
        if rule["record"] == "promise:sentinel_slo_allowed:rate5m"
    }
    assert allowed == {promise.id: pytest.approx(1 - promise.objective) for promise in PROMISES}


@pytest.mark.parametrize("name", ["compose.yaml", "k8s/base/prometheus/prometheus.yaml"])
def test_prometheus_keeps_what_a_promise_is_kept_over(name: str) -> None:
    found = re.search(r"--storage\.tsdb\.retention\.time=(\d+)d", (ROOT / name).read_text())
    assert found is not None
    assert int(found[1]) > 30
