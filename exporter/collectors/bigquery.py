"""`type: bigquery`: the configuration, checked; collecting is not part of this version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from exporter.collectors.base import SourceConfig
from exporter.model import Template


class BigQueryConfig(SourceConfig):
    """A query over BigQuery tables, billed to `project`."""

    type: Literal["bigquery"]
    project: Annotated[str, Field(min_length=1)]
    query: Template
    location: str | None = None
