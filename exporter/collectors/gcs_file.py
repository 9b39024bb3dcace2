"""`type: gcs_file`: the configuration, checked; collecting is not part of this version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from exporter.collectors.base import SourceConfig


class GcsFileConfig(SourceConfig):
    """A file of rows in a Google Cloud Storage bucket; `{date}` in the pattern is the day, as YYYY-MM-DD."""

    type: Literal["gcs_file"]
    bucket: Annotated[str, Field(min_length=1)]
    path_pattern: Annotated[str, Field(min_length=1)]
    format: Literal["json", "ndjson", "csv", "parquet"] = "json"
