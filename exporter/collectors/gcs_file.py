"""`type: gcs_file`: a file of rows in a Google Cloud Storage bucket."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from exporter.collectors.file_config import BucketConfig
from exporter.collectors.file_source import FileSourceCollector
from exporter.environment import references
from exporter.model import OptionalTemplate


class GcsFileConfig(BucketConfig):
    """An object in a bucket. Without `credentials_file`, the application default credentials are used."""

    type: Literal["gcs_file"] = Field(description="`gcs_file`.")
    credentials_file: str | None = Field(None, description="Key file of a service account, read at every collection.")
    endpoint: OptionalTemplate = Field(None, description="Another address than Google's, such as an emulator's.")

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), *references(self.endpoint or ""))

    @model_validator(mode="after")
    def _one_identity(self) -> GcsFileConfig:
        if self.anonymous and self.credentials_file is not None:
            raise ValueError("anonymous uses no credentials: remove it, or credentials_file")
        return self


class GcsFileCollector(FileSourceCollector):
    """Reads an object of a Google Cloud Storage bucket."""

    def __init__(self, config: GcsFileConfig) -> None:
        from exporter.collectors.gcs_objects import GcsObjects  # noqa: PLC0415 - needs a library that may be missing

        super().__init__(config, GcsObjects(config))
