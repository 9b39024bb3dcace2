"""The frame around panels, and queries that several dashboards ask: replicas are aggregated away, as the rules do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    AnnotationTarget,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Panel,
    RowPanel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import RED, SOURCE, Piece

PROMETHEUS = "sentinel-prometheus"
"""The uid of the data source that grafana/provisioning sets up; elsewhere a person chooses another."""

TAG = "sentinel"


@dataclass(frozen=True, slots=True)
class Section:
    """Pieces under a heading, or without one at the top."""

    title: str
    pieces: Sequence[Piece]


def board(  # one argument for each thing that dashboards differ in
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    variables: Sequence[Builder[Any]] = (),
    since: str = "now-3h",
    annotated: Sequence[str] = (TAG,),
) -> str:
    """The dashboard as JSON. `annotated`: tags of the alerts that the webhook's Grafana channel draws on it.

    A panel without an id of its own gets the number of its place from 100 on, away from those that have one.
    """
    chosen = VariableOption(selected=True, text="Prometheus", value=PROMETHEUS)
    built = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_others())
        .annotation(_alerts(annotated))
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus").current(chosen))
    )
    for variable in variables:
        built.with_variable(variable)
    ids = _fill(built, sections)
    model = built.build()
    for place, (one, own) in enumerate(zip(model.panels or (), ids, strict=True), 100):
        assert isinstance(one, Panel | RowPanel)
        one.id_val = own or place
    return json.dumps(model, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _fill(built: Dashboard, sections: Sequence[Section]) -> list[int]:
    """The ids that rows and panels have of their own, 0 for none."""
    ids: list[int] = []
    for section in sections:
        if section.title:
            built.with_row(Row(section.title))
            ids.append(0)
        for piece in section.pieces:
            built.with_panel(piece.panel())
            ids.append(piece.id)
    return ids


def choice(name: str, label: str, query: str, *, several: bool = True) -> QueryVariable:
    """A variable with the values that Prometheus knows now; of `several`, all are chosen at first."""
    variable = (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        every = VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.multi(True).include_all(True).all_value(".*").current(every)
    return variable


def quantiles(metric: str, by: str = "", of: str = "", shares: Sequence[float] = (0.5, 0.99)) -> list[tuple[str, str]]:
    """Lines of a histogram: one for each share, and for each value of the label `by`. `of`: a selector."""
    legend = f"{{{{{by}}}}} " if by else ""
    labels = f"le, {by}" if by else "le"
    return [
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{of}[$__rate_interval])))",
            f"{legend}p{share * 100:g}",
        )
        for share in shares
    ]


def per_second(metric: str, by: str, of: str = "") -> str:
    """Of a counter, over all replicas."""
    return f"sum by ({by}) (rate({metric}{of}[$__rate_interval]))"


def total(metric: str, of: str = "") -> str:
    """How much a counter grew in the time on show, over all replicas; 0 where it has never been counted."""
    return f"sum(increase({metric}{of}[$__range])) or vector(0)"


def _others() -> DashboardLink:
    """To the other dashboards, with what is chosen here."""
    link = DashboardLink("Sentinel").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _alerts(tags: Sequence[str]) -> AnnotationQuery:
    """Alerts that the webhook's Grafana channel has annotated, on whichever dashboard."""
    target = AnnotationTarget().limit(100).match_any(False).tags(list(tags)).type("tags")
    return (
        AnnotationQuery()
        .name("Alerts told")
        .datasource(DataSourceRef("grafana", "-- Grafana --"))
        .enable(True)
        .hide(False)
        .icon_color(RED)
        .target(target)
    )
