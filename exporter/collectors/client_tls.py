"""`tls:` of a source, as far as all sources have it alike."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from exporter.model import StrictModel


class ClientTlsConfig(StrictModel):
    """Files in PEM: the authorities that are trusted, and the certificate that the exporter shows, with its key."""

    ca_file: str | None = Field(None, description="Authorities that are trusted, instead of the system's (PEM).")
    cert_file: str | None = Field(None, description="Certificate that the exporter shows (PEM).")
    key_file: str | None = Field(None, description="Its key (PEM).")

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: add the other one")
        return self
