"""What stands on dashboards: a number, lines over time, bars, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from grafana_foundation_sdk.builders import bargauge, stat, table, timeseries
from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef("prometheus", "${datasource}")
GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
WHOLE = 24  # columns of Grafana's grid

Limits = Sequence[tuple[float, str]]
"""Values, rising, and the colour from each on."""


class Piece(Protocol):
    """What stands on a dashboard. `id` is its address in links and pictures; 0 where nobody asks for it."""

    @property
    def id(self) -> int: ...

    def panel(self) -> Builder[Panel]: ...


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, in the colour of the limit that it has reached, and in `base` below all of them.

    `words`: what is shown in place of a value.
    """

    title: str
    description: str
    query: str
    unit: str = units.Short
    limits: Limits = ()
    base: str = GREEN
    words: Mapping[int, str] = field(default_factory=dict)
    decimals: int | None = None
    span: int = 3
    id: int = 0

    def panel(self) -> stat.Panel:
        told = {str(value): ValueMappingResult(text=word) for value, word in self.words.items()}
        panel = (
            stat.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .span(self.span)
            .height(4)
            .unit(self.unit)
            .color_mode(BigValueColorMode.VALUE)
            .graph_mode(BigValueGraphMode.NONE)
            .mappings([ValueMap(options=told)] if told else [])
            .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
            .thresholds(thresholds(self.limits, self.base))
            .with_target(_at_once(self.query))
        )
        return panel if self.decimals is None else panel.decimals(self.decimals)


@dataclass(frozen=True, slots=True)
class Course:
    """Lines over time: queries and their legends. `right`: a legend that has an axis of its own, and its unit.

    `step`: how far apart samples are, where that is more than the data source's 15 s.
    """

    title: str
    description: str
    lines: Sequence[tuple[str, str]]
    unit: str = units.Short
    limits: Limits = ()
    stacked: bool = False
    step: str = ""
    right: tuple[str, str] | None = None
    colors: Mapping[str, str] = field(default_factory=dict)
    link: tuple[str, str] | None = None
    span: int = 12
    height: int = 8
    id: int = 0

    def panel(self) -> timeseries.Panel:
        panel = (
            timeseries.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .span(self.span)
            .height(self.height)
            .unit(self.unit)
            .min(0)
            .legend(_legend())
        )
        for number, (query, legend) in enumerate(self.lines):
            asked = Dataquery().expr(query).range().legend_format(legend).ref_id(_letter(number)).datasource(SOURCE)
            panel.with_target(asked.interval(self.step) if self.step else asked)
        if self.limits:
            dashed = options.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            panel.thresholds(thresholds(self.limits, "transparent")).thresholds_style(dashed)
        if self.stacked:
            panel.stacking(options.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
        if self.right:
            own_axis, unit = self.right
            own = [DynamicConfigValue("unit", unit), DynamicConfigValue("custom.axisPlacement", "right")]
            panel.override_by_name(own_axis, own)
        for legend, color in self.colors.items():
            panel.override_by_name(legend, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
        if self.link:
            panel.data_links([DashboardLink(self.link[0]).url(self.link[1])])
        return panel


@dataclass(frozen=True, slots=True)
class Bars:
    """Numbers side by side, each with its name."""

    title: str
    description: str
    lines: Sequence[tuple[str, str]]
    unit: str = units.Short
    span: int = 12
    id: int = 0

    def panel(self) -> bargauge.Panel:
        panel = (
            bargauge.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .span(self.span)
            .height(8)
            .unit(self.unit)
            .min(0)
            .orientation(VizOrientation.HORIZONTAL)
            .display_mode(BarGaugeDisplayMode.BASIC)
            .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
            .thresholds(thresholds((), "blue"))
        )
        for number, (query, legend) in enumerate(self.lines):
            panel.with_target(_at_once(query, _letter(number)).legend_format(legend))
        return panel


@dataclass(frozen=True, slots=True)
class Column:
    """`words`: text and colour in place of a value; `limits`: its colours."""

    query: str
    unit: str = ""
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    limits: Limits = ()

    def properties(self) -> list[DynamicConfigValue]:
        found = [DynamicConfigValue("unit", self.unit)] if self.unit else []
        if self.words:
            told = {
                str(value): {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(self.words.items())
            }
            found.append(DynamicConfigValue("mappings", [{"type": "value", "options": told}]))
        if self.limits:
            found.append(DynamicConfigValue("thresholds", thresholds(self.limits).build()))
        if self.words or self.limits:
            found.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        return found


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each set of labels. `labels`: their names as shown; `link`: of a label, its title and address."""

    title: str
    description: str
    columns: Mapping[str, Column]
    labels: Mapping[str, str]
    sort: tuple[str, bool]
    link: tuple[str, str, str] | None = None
    height: int = 10
    id: int = 0

    def panel(self) -> table.Panel:
        panel = (
            table.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .span(WHOLE)
            .height(self.height)
            .filterable(True)
        )
        names = {f"Value #{_letter(number)}": column for number, column in enumerate(self.columns)}
        for number, (name, column) in enumerate(self.columns.items()):
            panel.with_target(_at_once(column.query, _letter(number)).format(PromQueryFormat.TABLE))
            if properties := column.properties():
                panel.override_by_name(name, properties)
        if self.link:
            label, title, url = self.link
            panel.override_by_name(label, [DynamicConfigValue("links", [{"title": title, "url": url}])])
        organised = {"excludeByName": {"Time": True}, "renameByName": {**self.labels, **names}}
        return (
            panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
            .with_transformation(DataTransformerConfig(id_val="organize", options=organised))
            .sort_by([options.TableSortByFieldState().display_name(self.sort[0]).desc(self.sort[1])])
        )


def thresholds(limits: Limits, base: str = GREEN) -> ThresholdsConfig:
    steps = [Threshold(None, base), *(Threshold(at, color) for at, color in limits)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _at_once(query: str, letter: str = "A") -> Dataquery:
    return Dataquery().expr(query).instant().ref_id(letter).datasource(SOURCE)


def _letter(position: int) -> str:
    """Grafana's names of queries."""
    return chr(ord("A") + position)


def _legend() -> options.VizLegendOptions:
    return (
        options.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
