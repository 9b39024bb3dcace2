"""What all sources over HTTP have in common in their configuration: address, TLS, proxy, size cap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from exporter.collectors.base import SourceConfig
from exporter.collectors.client_tls import ClientTlsConfig
from exporter.collectors.http_auth import web_address
from exporter.environment import Secrets, references
from exporter.errors import SecretMissing
from exporter.model import LATE, Template

_MEBIBYTE = 1024 * 1024


def _proxy(url: str | None) -> str | None:
    if url is None or url.startswith("${"):
        return url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("is no proxy address: write http://host:port")
    if parts.password and not list(references(parts.password)):
        raise ValueError("a password does not belong into this file: write ${VARIABLE} in its place, or use proxy_env")
    return url


class TlsConfig(ClientTlsConfig):
    """Which certificates are trusted and shown. Files are PEM and read anew for each connection."""

    verify: bool = Field(True, description="`false` trusts anybody, and is counted as a warning.")

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        """A certificate's file may hold its key, too."""
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file: add the client certificate")
        return self

    @model_validator(mode="after")
    def _authorities_are_used(self) -> TlsConfig:
        if self.ca_file and not self.verify:
            raise ValueError("ca_file has no effect with verify: false: remove one of them")
        return self


class HttpSourceConfig(SourceConfig):
    """Keys of a source that is read over HTTP."""

    endpoint: Annotated[Template, AfterValidator(web_address)] = Field(
        description="The address, without user or password."
    )
    tls: TlsConfig = Field(default_factory=TlsConfig, description="Which certificates are trusted and shown.")
    proxy: Annotated[str | None, LATE, AfterValidator(_proxy)] = Field(
        None, description="`http://user:${PASSWORD}@host:port`; without one `HTTPS_PROXY` and `NO_PROXY` count."
    )
    proxy_env: str | None = Field(None, description="Variable that holds all of the proxy's address.")
    max_response_bytes: Annotated[int, Field(ge=1)] = Field(64 * _MEBIBYTE, description="Largest answer, decompressed.")

    @model_validator(mode="after")
    def _one_proxy(self) -> HttpSourceConfig:
        if self.proxy is not None and self.proxy_env is not None:
            raise ValueError("has proxy and proxy_env: remove one of them")
        return self

    def needs(self) -> tuple[str, ...]:
        proxy = [self.proxy_env] if self.proxy_env else references(self.proxy or "")
        return (*references(self.endpoint), *proxy)


@dataclass(frozen=True, slots=True)
class Route:
    """How a server is reached: as requests takes it."""

    verify: bool | str
    cert: str | tuple[str, str] | None
    proxies: dict[str, str]


def route_of(config: HttpSourceConfig, secrets: Secrets) -> Route:
    """Read now, since a proxy's password may have changed; it is hidden from then on. Missing files: SecretMissing."""
    tls = config.tls
    for name in ("ca_file", "cert_file", "key_file"):
        _readable(f"tls.{name}", getattr(tls, name))
    cert = (tls.cert_file, tls.key_file) if tls.cert_file and tls.key_file else tls.cert_file
    proxy = secrets.secret(env=config.proxy_env, template=config.proxy)
    if not proxy:
        return Route(tls.ca_file or tls.verify, cert, {})
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        origin = config.proxy_env or "proxy"
        raise SecretMissing(f"{origin} is no proxy address: it must be http://host:port or http://user:password@…")
    for secret in filter(None, (parts.password, unquote(parts.password or ""))):
        secrets.hide(secret)
    return Route(tls.ca_file or tls.verify, cert, {"http": proxy, "https": proxy})


def _readable(key: str, path: str | None) -> None:
    if path is None:
        return
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise SecretMissing(f"{key} {path} cannot be read: {error.strerror}") from None
