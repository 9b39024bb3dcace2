"""How a source's columns become samples: the `metrics` and `filters` of a source, and the policies beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.mapping import families
from exporter.mapping.conversion import Conversion, ParseKind, checked_form, checked_unit, checked_zone
from exporter.mapping.families import MetricType
from exporter.model import StrictModel, Text

NullPolicy = Literal["skip", "nan", "zero"]
OverBudget = Literal["reject", "truncate"]
DuplicatePolicy = Literal["error", "first", "last", "sum", "max"]

# Keys of a metric that only some types have; `source_field` and `null` are told of by their own messages.
_VALUE_KEYS = ("source_field", "null", "parse", "unit", "format", "time_zone", "map")
_KEYS_OF: Mapping[MetricType, tuple[str, ...]] = {
    "gauge": _VALUE_KEYS,
    "counter": _VALUE_KEYS,
    "histogram": ("buckets", "cumulative", "sum", "count", "null", "parse", "unit"),
    "info": (),
    "stateset": ("source_field", "states", "null"),
}
_NEEDED: Mapping[MetricType, tuple[str, ...]] = {
    "gauge": ("source_field",),
    "counter": ("source_field",),
    "histogram": ("buckets",),
    "info": ("labels",),
    "stateset": ("source_field", "states"),
}
_SOME_TYPES = tuple(dict.fromkeys(key for keys in _KEYS_OF.values() for key in keys))
_TEXT_OPERATORS = ("contains", "regex")
_AS_IN_SQL = {"=": "==", "<>": "!="}
_ORDERS = (">", ">=", "<", "<=")
_INTEGERS = range(-(2**63), 2**63)


def has_key(kind: MetricType, key: str) -> bool:
    """Whether a key of a metric has a meaning for metrics of this type."""
    return key not in _SOME_TYPES or key in _KEYS_OF[kind]


def _label_columns(value: object) -> object:
    """A list of columns, named as their labels, as a mapping from label to column."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("lists column names, or maps each label to its column")
    repeated = sorted({name for name in value if value.count(name) > 1})
    if repeated:
        raise ValueError(f"names {', '.join(repeated)} twice: name each label once")
    return {name: name for name in value}


def _plain_value(value: object) -> object:
    """Beforehand, because each type that a value may have would complain of its own."""
    if not isinstance(value, bool | int | float | date | str):
        raise ValueError("must be text, a number, true or false, or a date")  # noqa: TRY004 - pydantic wants ValueErrors
    return value


def _as_operator(name: object) -> object:
    """An operator of SQL as it is called here."""
    return _AS_IN_SQL.get(name, name) if isinstance(name, str) else name


Operator = Literal["==", "!=", ">", ">=", "<", "<=", "in", "not_in", "contains", "regex", "is_null", "not_null"]
FilterValue = Annotated[bool | int | float | datetime | date | str, BeforeValidator(_plain_value)]
LabelName = Annotated[str, AfterValidator(families.label_name)]
LabelColumns = Annotated[
    dict[LabelName, Text],
    BeforeValidator(_label_columns, json_schema_input_type=dict[str, str] | list[str]),
]
StaticLabels = dict[LabelName, Text]


class MetricConfig(StrictModel):
    """One metric family, and the columns that it is fed from. What it may and must have depends on its type."""

    source_field: str | None = Field(None, min_length=1, description="The column that its values are read from.")
    prometheus_name: Annotated[
        str,
        AfterValidator(families.metric_name),
        Field(description="Its name in Prometheus, such as sentinel_block_rate."),
    ]
    type: MetricType = Field("gauge", description="What kind of metric it is.")
    labels: LabelColumns = Field(
        default_factory=dict, description="Columns that become labels: a list, or a mapping from label to column."
    )
    help: str | None = Field(None, description="What it says, in one line, for people who look at the metric.")
    null: NullPolicy = Field("skip", description="What a row without a value gives: no sample, NaN, or zero.")
    parse: ParseKind = Field("number", description="How a value is read that is no plain number.")
    unit: str | None = Field(None, description="The unit that values are in, to be turned into the base unit.")
    format: Annotated[str, AfterValidator(checked_form)] | None = Field(
        None, description="How a time is written, as for strptime; ISO 8601 without it."
    )
    time_zone: Annotated[str, AfterValidator(checked_zone)] | None = Field(
        None, description="Of times that are written without one."
    )
    map: dict[str, float] = Field(default_factory=dict, description="Numbers that stand for words.")
    buckets: dict[Text, float] = Field(
        default_factory=dict, description="Of a histogram: each column with a count, and its upper bound."
    )
    cumulative: bool = Field(default=True, description="Of a histogram: whether each bucket counts the ones below it.")
    sum: str | None = Field(None, min_length=1, description="Of a histogram: the column with the sum of observations.")
    count: str | None = Field(None, min_length=1, description="Of a histogram: the column with their number.")
    states: tuple[Annotated[Text, Field(min_length=1)], ...] = Field(
        (), description="Of a state set: the words that the column may hold."
    )

    @property
    def value_columns(self) -> tuple[str, ...]:
        """Columns that its values are read from, each once."""
        found = (self.source_field, *self.buckets, self.sum, self.count)
        return tuple(dict.fromkeys(name for name in found if name is not None))

    @property
    def conversion(self) -> Conversion:
        """How the values are read; those of a histogram are its sums."""
        return Conversion(self.parse, self.unit, self.format, self.time_zone or "UTC", self.map)

    @property
    def bounds(self) -> tuple[tuple[float, str], ...]:
        """Upper bound and column of each bucket, in order."""
        return tuple(sorted((bound, column) for column, bound in self.buckets.items()))

    @property
    def extra_label(self) -> str | None:
        """The label that the type itself puts on samples."""
        return {"histogram": "le", "stateset": self.prometheus_name}.get(self.type)

    def help_text(self, source: str) -> str:
        """What the family's header says."""
        return self.help or f"{', '.join(self.value_columns) or ', '.join(self.labels.values())} of {source}."

    @model_validator(mode="after")
    def _fits_its_type(self) -> MetricConfig:
        for key in _NEEDED[self.type]:
            if not getattr(self, key):
                raise ValueError(f"{key} is missing: a metric of type {self.type} needs it")
        for key in _SOME_TYPES:
            if key in self.model_fields_set and key not in _KEYS_OF[self.type]:
                fitting = " or ".join(kind for kind, keys in _KEYS_OF.items() if key in keys)
                raise ValueError(f"{key} has no meaning for type {self.type}: remove it, or set type: {fitting}")
        if self.type != "gauge" and self.null == "nan":
            raise ValueError(f"null: nan is for gauges only: use skip or zero for a {self.type}")
        self._check_name()
        self._check_conversion()
        if self.type == "histogram":
            self._check_histogram()
        if len(set(self.states)) < len(self.states):
            raise ValueError("states names one twice: name each once")
        return self

    def _check_name(self) -> None:
        name, ending = self.prometheus_name, families.ending(self.type)
        if not name.endswith(ending) or name == ending:
            raise ValueError(f"prometheus_name of type {self.type} must end in {ending}: {name.rstrip('_')}{ending}")
        reserved = sorted(filter(families.reserved, families.taken_names(name, self.type)))
        if reserved:
            raise ValueError(f"{name} of type {self.type} would also be {reserved[0]}, which is reserved: rename it")
        if self.extra_label in self.labels:
            raise ValueError(f"label {self.extra_label} is the {self.type}'s own: give the column's label another name")

    def _check_conversion(self) -> None:
        if self.parse != "timestamp":
            for key in ("format", "time_zone"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no meaning for parse: {self.parse}; set parse: timestamp")
        if self.unit is not None:
            checked_unit(self.parse, self.unit)
        if self.type != "gauge" and any(math.isnan(number) or number < 0 for number in self.map.values()):
            raise ValueError("map has a number that a counter cannot have: use numbers from 0")

    def _check_histogram(self) -> None:
        bounds = [bound for bound, _ in self.bounds]
        if any(map(math.isnan, bounds)) or len(set(bounds)) < len(bounds):
            raise ValueError("buckets maps each column to its upper bound, and no two to the same")
        if self.count is None and bounds[-1] != math.inf:
            raise ValueError("count is missing: name the column with all observations, or a bucket column for +Inf")
        if self.sum is not None and bounds[0] < 0:
            raise ValueError("sum has no meaning with a bucket below 0, where it could fall: remove it")
        if self.sum is None and {"parse", "unit"} & self.model_fields_set:
            raise ValueError("parse and unit are about the sum, and there is none: remove them")


class FilterConfig(StrictModel):
    """Rows to keep: those whose field compares so with the value, or with one of the values."""

    field: str = Field(min_length=1, description="The column.")
    operator: Annotated[Operator, BeforeValidator(_as_operator)] = Field(description="How it is compared.")
    value: FilterValue | None = Field(None, description="What it is compared with.")
    values: tuple[FilterValue, ...] = Field((), description="For `in` and `not_in`.")

    @property
    def operands(self) -> tuple[FilterValue, ...]:
        """All values to compare with."""
        return self.values if self.value is None else (self.value,)

    @model_validator(mode="after")
    def _fits_its_operator(self) -> FilterConfig:
        operator = self.operator
        many, none = operator in ("in", "not_in"), operator in ("is_null", "not_null")
        if none and self.operands:
            raise ValueError(f"{operator} compares with nothing: remove value")
        if many and (self.value is not None or not self.values):
            raise ValueError(f"{operator} needs values: list them, as in values: [EU, US]")
        if not many and not none and (self.value is None or self.values):
            raise ValueError(f"{operator} needs value: one to compare with")
        kinds = {kind_of(value) for value in self.operands}
        if len(kinds) > 1:
            raise ValueError(f"values are of several kinds ({', '.join(sorted(kinds))}): make them of one, with quotes")
        if operator in _TEXT_OPERATORS and kinds != {"text"}:
            raise ValueError(f"{operator} compares text: put the value in quotes")
        if operator in _ORDERS and kinds == {"truth"}:
            raise ValueError(f"{operator} cannot compare true and false: use == or !=")
        if any(isinstance(value, int) and value not in _INTEGERS for value in self.operands):
            raise ValueError("value has more than 64 bits: put it in quotes to compare it as text")
        if operator == "regex":
            _check_regex(str(self.value))
        return self


def kind_of(value: FilterValue) -> str:
    """How a filter compares: `truth`, `number`, `time` or `text`."""
    match value:
        case bool():
            return "truth"
        case int() | float():
            return "number"
        case date():
            return "time"
        case _:
            return "text"


def _check_regex(pattern: str) -> None:
    import polars as pl  # noqa: PLC0415 - most configurations have no regex, and a warm start does without Polars

    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        raise ValueError(f"{pattern!r} is no regular expression") from None


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """All that the mapping needs to know of a source. `labels` are static, `label_defaults` replace null and empty."""

    metrics: tuple[MetricConfig, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    label_defaults: Mapping[str, str] = field(default_factory=dict)
    duplicates: DuplicatePolicy = "error"
    max_series: int = 1_000_000
    over_budget: OverBudget = "reject"
    filters: tuple[FilterConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class DataWarning:
    """Something in the data that was left out or changed: how often, and one example.

    `metric` is the family that is left out as a whole, if one is.
    """

    reason: str
    count: int
    detail: str
    metric: str | None = None
