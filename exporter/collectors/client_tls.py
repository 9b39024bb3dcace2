"""`tls:` of a source, as far as all sources have it alike."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from exporter.model import StrictModel


class ClientTlsConfig(StrictModel):
    """Files in PEM: the authorities that are trusted, and the certificate that the exporter shows, with its key."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: add the other one")
        return self
