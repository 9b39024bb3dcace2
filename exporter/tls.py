"""TLS for the HTTP server: at least 1.2, certificates read again when their files change."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import structlog

from exporter.errors import CannotServe
from exporter.server_config import ServerTlsConfig

log = structlog.get_logger()
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_Signature = tuple[tuple[int, int, int], ...]


class Certificates:
    """The context that new connections use."""

    def __init__(self, config: ServerTlsConfig) -> None:
        """CannotServe when the files cannot be used."""
        self._config = config
        self._lock = threading.Lock()
        self._told = ""
        try:
            self._signature = self._signed()
            self._context = self._load()
        except (OSError, ValueError) as error:
            raise CannotServe(_explained(error, config)) from None

    @property
    def context(self) -> ssl.SSLContext:
        """The newest one that could be loaded: a rotation that is only half done changes nothing yet."""
        with self._lock:
            try:
                signature = self._signed()
                if signature != self._signature:
                    self._signature = signature
                    self._context = self._load()
                    log.info("certificate loaded again", file=self._config.cert_file)
                    self._told = ""
            except (OSError, ValueError) as error:
                self._tell(_explained(error, self._config))
            return self._context

    def _tell(self, problem: str) -> None:
        """Log a problem once, not at every connection."""
        if problem != self._told:
            log.warning("certificate kept as it was", error=problem)
        self._told = problem

    @property
    def _files(self) -> tuple[str, ...]:
        ca = self._config.client_ca_file
        return (self._config.cert_file, self._config.key_file, *((ca,) if ca else ()))

    def _signed(self) -> _Signature:
        stats = (Path(file).stat() for file in self._files)
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._config.min_version]
        context.set_alpn_protocols(["http/1.1"])
        # With a password at hand, OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(self._config.cert_file, self._config.key_file, password="")
        if self._config.client_ca_file is not None:
            context.load_verify_locations(self._config.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _explained(error: OSError | ValueError, config: ServerTlsConfig) -> str:
    if isinstance(error, ssl.SSLError):
        what = (error.reason or str(error)).replace("_", " ").lower()
        return f"exporter.tls: {config.cert_file} and {config.key_file} are no certificate with its key in PEM: {what}"
    if isinstance(error, OSError) and error.filename:
        return f"exporter.tls: {error.filename} cannot be read: {error.strerror}"
    files = f"{config.cert_file} or {config.key_file}"
    return f"exporter.tls: {files} cannot be read: {getattr(error, 'strerror', None) or error}"
