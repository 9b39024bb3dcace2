"""Grafana's pictures: asked for as it documents, looked at before they are believed, drawn locally otherwise."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes_grafana import PANEL, ROW_PANEL, UID, Failure, GrafanaStub, login, picture, renderer_missing
from prometheus_client import CollectorRegistry
from servers import wait_for

from webhook.adapters.charts import MatplotlibCharts
from webhook.adapters.grafana import HEIGHT, WIDTH, GrafanaPanels, Panel
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.chart_metrics import ChartMetrics
from webhook.ports import PanelUnavailable, Series

END = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
START = END - timedelta(hours=1)
ACCOUNT = {"account": "{account_id}", "type": "kind-{alert_type}"}
PANELS = {"CARD_TESTING": Panel(UID, PANEL, ACCOUNT), "default": Panel(UID, ROW_PANEL)}


@pytest.fixture
def grafana() -> Iterator[GrafanaStub]:
    with GrafanaStub() as stub:
        yield stub


@pytest.fixture
def made() -> Iterator[list[GrafanaPanels]]:
    panels: list[GrafanaPanels] = []
    yield panels
    for one in panels:
        one.close()


def connected(made: list[GrafanaPanels], grafana: GrafanaStub, **changes: Any) -> GrafanaPanels:
    values: dict[str, Any] = {"panels": PANELS, "budget": 60, "parallel": 2, "token": grafana.token, **changes}
    made.append(GrafanaPanels(grafana.url, **values))
    return made[-1]


def ask(panels: GrafanaPanels, alert_type: str = "CARD_TESTING", account: str = "acc_017") -> bytes:
    return panels.render(alert_type, account, START, END, "dark")


def why(panels: GrafanaPanels, *asked: str) -> str:
    with pytest.raises(PanelUnavailable) as refused:
        ask(panels, *asked)
    return refused.value.why


def test_the_panel_of_the_alert_type_with_its_account_and_time(grafana: GrafanaStub, made: list[GrafanaPanels]) -> None:
    image = ask(connected(made, grafana))

    assert struct.unpack(">II", image[16:24]) == (WIDTH, HEIGHT)
    (asked,) = grafana.rendered
    assert asked["path"] == f"/render/d-solo/{UID}/merchants"
    assert asked["panelId"] == str(PANEL)
    assert asked["var-account"] == "acc_017"
    assert asked["var-type"] == "kind-CARD_TESTING"
    assert (asked["from"], asked["to"]) == (str(int(START.timestamp() * 1000)), str(int(END.timestamp() * 1000)))
    assert (asked["theme"], asked["tz"]) == ("dark", "UTC")


def test_other_types_have_the_default_panel_and_dashboards_are_looked_up_once(
    grafana: GrafanaStub, made: list[GrafanaPanels]
) -> None:
    panels = connected(made, grafana)
    ask(panels, "VELOCITY_ATTACK")
    ask(panels, "VELOCITY_ATTACK")
    assert [asked["panelId"] for asked in grafana.rendered] == [str(ROW_PANEL)] * 2
    assert len([path for _, path in grafana.calls if "/dashboards/" in path]) == 1


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(401, b'{"message": "Invalid API key"}'), "status_401"),
        (Failure(404, b'{"message": "Not found"}'), "status_404"),
        (Failure(500), "status_500"),
        (Failure(429, headers={"Retry-After": "7"}), "status_429"),
        (login(), "status_302"),
        (Failure(200, b"<html><title>Grafana</title>", "text/html; charset=UTF-8"), "not_png"),
        (renderer_missing(), "wrong_size"),
        (Failure(200, b"garbage", "image/png"), "not_png"),
        (Failure(200, b"", "image/png"), "not_png"),
        (Failure(200, picture(WIDTH, HEIGHT)[:4000], "image/png"), "not_png"),
        (Failure(200, picture(WIDTH, HEIGHT, lines=0), "image/png"), "blank"),
        (Failure(reset=True), "error"),
    ],
)
def test_what_is_no_picture_of_the_panel_is_refused(
    grafana: GrafanaStub, made: list[GrafanaPanels], failure: Failure, expected: str
) -> None:
    grafana.fail_next("/render", failure)
    panels = connected(made, grafana)
    assert why(panels) == expected
    assert ask(panels), "the next one is asked for again"


def test_a_wrong_token_is_told_by_its_status(grafana: GrafanaStub, made: list[GrafanaPanels]) -> None:
    assert why(connected(made, grafana, token="glsa_other")) == "status_401"


@pytest.mark.parametrize("panel", [Panel("unknown", PANEL), Panel(UID, 77)])
def test_a_panel_that_does_not_exist_is_not_rendered(
    grafana: GrafanaStub, made: list[GrafanaPanels], panel: Panel
) -> None:
    """Grafana's renderer would make a picture of the words `Panel not found`."""
    assert why(connected(made, grafana, panels={"default": panel})) == "unknown_panel"
    assert not grafana.rendered


def test_a_type_without_a_panel_is_drawn_locally(grafana: GrafanaStub, made: list[GrafanaPanels]) -> None:
    assert why(connected(made, grafana, panels={"CARD_TESTING": Panel(UID, PANEL)}), "BLOCK_SURGE") == "no_panel"


@pytest.mark.parametrize("account", ["All", "$__all", "{a,b}", 'x"} or up{a="', "a b", ""])
def test_an_account_that_a_variable_would_read_as_others_is_not_asked_for(
    grafana: GrafanaStub, made: list[GrafanaPanels], account: str
) -> None:
    assert why(connected(made, grafana), "CARD_TESTING", account) == "odd_account"
    assert not grafana.calls


@pytest.mark.parametrize("kind", ["hold", "drip", "crawl"])
def test_the_budget_ends_what_is_slow_in_any_way(grafana: GrafanaStub, made: list[GrafanaPanels], kind: str) -> None:
    never = threading.Event()
    grafana.fail_next("/render", Failure(**{kind: never}))
    try:
        assert why(connected(made, grafana, budget=0.5)) == "timeout"
    finally:
        never.set()


def test_who_finds_all_places_taken_does_not_wait(grafana: GrafanaStub, made: list[GrafanaPanels]) -> None:
    go_on = threading.Event()
    grafana.fail_next("/render", Failure(hold=go_on, status=500))
    panels = connected(made, grafana, parallel=1)
    first: list[str] = []
    asking = threading.Thread(target=lambda: first.append(why(panels)))
    asking.start()
    try:
        wait_for(lambda: any("/render" in path for _, path in grafana.calls), what="the first picture")
        assert why(panels) == "busy"
    finally:
        go_on.set()
        asking.join(60)
    assert first == ["status_500"]
    wait_for(lambda: not _busy(panels), what="a free place")


def _busy(panels: GrafanaPanels) -> bool:
    try:
        ask(panels)
    except PanelUnavailable as error:
        return error.why == "busy"
    return False


class History:
    def range(self, metric: str, _account: str, start: datetime, end: datetime, _step: timedelta) -> Series:
        return Series(metric, [start, end], [0.1, 0.4])


def test_without_grafanas_picture_the_chart_is_drawn_locally_and_it_is_counted_why(
    grafana: GrafanaStub, made: list[GrafanaPanels]
) -> None:
    registry = CollectorRegistry()
    chart = AlertChart(History(), MatplotlibCharts(), panels=connected(made, grafana), meter=ChartMetrics(registry))
    wanted: dict[str, Any] = {
        "metric": "block_rate",
        "threshold": 0.2,
        "account_id": "acc_017",
        "merchant": "Northwind Books",
        "start": START,
        "end": None,
        "now": END,
        "alert_type": "CARD_TESTING",
    }
    assert struct.unpack(">II", chart.draw(**wanted)[16:24]) == (WIDTH, HEIGHT)
    grafana.fail_next("/render", Failure(500))
    local = chart.draw(**wanted | {"theme": "dark"})
    assert struct.unpack(">II", local[16:24]) == (1000, 560)
    assert b"<svg" in chart.draw(**wanted | {"image_format": "svg"})

    def counted(by: str, why: str) -> float | None:
        return registry.get_sample_value("sentinel_chart_drawings_total", {"by": by, "why": why})

    assert (counted("grafana", ""), counted("local", "status_500"), counted("local", "svg")) == (1, 1, 1)
