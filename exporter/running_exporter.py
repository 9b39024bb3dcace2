"""Asks an exporter that runs what it serves of one source."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from exporter.environment import Secrets
from exporter.errors import SecretMissing, Unreachable
from exporter.server_config import ServerAuthConfig, ServerConfig

_TIMEOUT = (3.0, 60.0)  # to connect, and between two pieces of the answer
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told apart, not bound


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _OwnCertificate(HTTPAdapter):
    """Trusts the certificate that the configuration names, whatever host name is in it, and no other."""

    def __init__(self, cert_file: str) -> None:
        self._context = ssl.create_default_context(cafile=cert_file)
        self._context.check_hostname = False
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - requests' signature
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context, assert_hostname=False)

    def cert_verify(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - requests' signature
        """The context above is all there is to it: requests would add the authorities of the web."""


def own_address(server: ServerConfig) -> str:
    """Where an exporter with this configuration answers on this machine."""
    host = _ANYWHERE.get(server.host, server.host)
    scheme = "https" if server.tls else "http"
    return f"{scheme}://[{host}]:{server.port}" if ":" in host else f"{scheme}://{host}:{server.port}"


def served(url: str, source: str, server: ServerConfig, secrets: Secrets) -> str:
    """Exposition text of what the exporter at `url` serves of the source. Unreachable says why there is none.

    The configuration's own credentials are sent, unless the URL has others, but not in the clear to another machine.
    """
    base = without_user(url).rstrip("/").removesuffix("/metrics")
    try:
        with requests.Session() as session:
            own = base == own_address(server)
            session.trust_env = not own  # no proxy stands between two programs of one machine
            if server.tls and own:
                session.mount(base, _OwnCertificate(server.tls.cert_file))
            auth = _written(url) or _credentials(base, server.auth, secrets)
            answer = session.get(
                base + "/metrics", params={"source[]": source}, headers={"Accept": "text/plain;version=0.0.4"},
                auth=auth, timeout=_TIMEOUT, allow_redirects=False,
            )  # fmt: skip
    except (requests.RequestException, SecretMissing, OSError, ValueError) as error:
        raise Unreachable(secrets.redact(f"{base} does not answer: {_cause(error)}")) from None
    if answer.status_code != requests.codes.ok:
        raise Unreachable(f"{base} answers {answer.status_code} {answer.reason}")
    if not answer.headers.get("Content-Type", "").startswith("text/plain; version=0.0.4"):
        raise Unreachable(f"{base} is no exporter: it answers {answer.headers.get('Content-Type')}")
    return answer.content.decode("utf-8", "replace")


def _written(url: str) -> AuthBase | None:
    """User and password that stand in the URL."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return HTTPBasicAuth(unquote(parts.username).encode(), unquote(parts.password or "").encode())


def _credentials(base: str, auth: ServerAuthConfig | None, secrets: Secrets) -> AuthBase | None:
    if auth is None or not (base.startswith("https://") or _on_this_machine(urlsplit(base).hostname or "")):
        return None
    for user in auth.users:
        password = secrets.secret(env=user.password_env, file=user.password_file, template=user.password)
        return HTTPBasicAuth(user.username.encode(), (password or "").encode())
    for token in auth.tokens:
        return _Bearer(secrets.secret(env=token.token_env, file=token.token_file, template=token.token) or "")
    return None


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_user(url: str) -> str:
    """The URL without a user and password that may stand in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _cause(error: Exception) -> str:
    """The innermost reason, which is the one that says something."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
