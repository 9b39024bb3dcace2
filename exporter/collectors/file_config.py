"""Configuration that `file`, `s3_file` and `gcs_file` share: which file, in which format, and how large at most."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.collectors.base import SourceConfig
from exporter.collectors.file_paths import NewestBy, checked_pattern
from exporter.collectors.json_rows import PathText
from exporter.environment import references
from exporter.mapping.conversion import checked_zone
from exporter.model import StrictModel, Template, parse_duration

Format = Literal["json", "ndjson", "csv", "parquet"]
_SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
}
_MEBIBYTE = 1024 * 1024


def _offset(value: object) -> float:
    """Seconds of a duration that may have a sign."""
    if isinstance(value, str) and value.strip()[:1] in ("-", "+"):
        seconds = parse_duration(value.strip()[1:].lstrip())
        return -seconds if value.strip().startswith("-") else seconds
    return parse_duration(value)


def _one_byte(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n":
        raise ValueError(f'{text!r} is not one plain character: write one such as "," or ";" or "\\t"')
    return text


class CsvConfig(StrictModel):
    """How a CSV file is written. Without a header, its columns are `columns`, or else `column_1`, `column_2`, …."""

    delimiter: Annotated[str, AfterValidator(_one_byte)] = Field(",", description="What stands between fields.")
    quote: Annotated[str, AfterValidator(lambda text: text and _one_byte(text))] = Field(
        '"', description="What stands around a field; empty for none."
    )
    header: bool = Field(True, description="Whether the first line names the columns.")
    columns: tuple[str, ...] = Field((), description="Their names where there is no header.")

    @model_validator(mode="after")
    def _agree(self) -> CsvConfig:
        if self.columns and self.header:
            raise ValueError("columns is for files without a header: set header: false, or remove it")
        if self.quote == self.delimiter:
            raise ValueError("delimiter and quote are the same character")
        return self


class FileSourceConfig(SourceConfig):
    """A file of rows, named by a pattern that may have time fields and wildcards."""

    path_pattern: Annotated[Template, Field(min_length=1), AfterValidator(checked_pattern)] = Field(
        description="The file, with time fields such as `{date}` and `{hour}`, and wildcards."
    )
    time_zone: Annotated[str, AfterValidator(checked_zone)] = Field(
        "UTC", description="Of the time fields, and of `cron`, such as `Europe/London`."
    )
    offset: Annotated[float, BeforeValidator(_offset, json_schema_input_type=str)] = Field(
        0.0, description="Moves all time fields: `-1h`, `-1d`, `30m`."
    )
    newest_by: NewestBy = Field(
        "modified", description="Which of several matches is taken: modified last, or last by name."
    )
    max_listed: Annotated[int, Field(ge=1)] = Field(
        10_000, description="How many files a wildcard may find; more are an error."
    )
    format: Format | None = Field(None, description="Where the file's suffix does not say it.")
    rows: PathText | None = Field(None, description="For JSON: a JMESPath to the list of objects.")
    csv: CsvConfig | None = Field(None, description="How a CSV file is written.")
    max_bytes: Annotated[int, Field(ge=1)] = Field(
        128 * _MEBIBYTE, description="Largest file, stored and decompressed."
    )

    @property
    def kind(self) -> Format | None:
        """The format, by the file's suffix where it is not given; None where the suffix says nothing."""
        if self.format is not None:
            return self.format
        name = self.path_pattern.lower().removesuffix(".gz")
        return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def needs(self) -> tuple[str, ...]:
        return tuple(references(self.path_pattern))

    @model_validator(mode="after")
    def _keys_fit_the_format(self) -> FileSourceConfig:
        if self.kind is None:
            raise ValueError("format is missing, and path_pattern does not tell: add json, ndjson, csv or parquet")
        if self.rows is not None and self.kind != "json":
            raise ValueError(f"rows is for json files only, and format is {self.kind}: remove it")
        if self.csv is not None and self.kind != "csv":
            raise ValueError(f"csv is for csv files only, and format is {self.kind}: remove it")
        return self


class BucketConfig(FileSourceConfig):
    """A file in a bucket. Names in one start with no slash."""

    bucket: Annotated[Template, Field(min_length=1)] = Field(description="Its name.")
    anonymous: bool = Field(False, description="For public buckets: no credentials.")

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), *references(self.bucket))

    @model_validator(mode="after")
    def _name_of_an_object(self) -> Self:
        if self.path_pattern.startswith("/"):
            raise ValueError("starts with /, which names in a bucket do not: remove it")
        return self
