"""A BigQuery client for a source: its credentials, and connections that last no longer than a collection."""

from __future__ import annotations

import http
import importlib.util
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import google.auth
import requests
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import bigquery
from google.oauth2 import service_account

from exporter.collectors.base import Collection
from exporter.collectors.bigquery import BigQueryConfig
from exporter.collectors.reachable_http import ReachableAdapter
from exporter.collectors.sockets import shut_down
from exporter.errors import SecretMissing, ServerFailed, TimedOut, Unreachable, Unsupported

_SCOPES = ("https://www.googleapis.com/auth/bigquery",)
_LONGEST_CONNECT = 10.0


class Connections:
    """Sockets of one client's requests, those for a token included. `within` is for one thread, `cancel` for any."""

    def __init__(self) -> None:
        self._left: Callable[[], float] = _closed
        self._socket: socket.socket | None = None
        self._shielded = False

    @contextmanager
    def within(self, left: Callable[[], float], *, shielded: bool = False) -> Iterator[None]:
        """Requests made here take at most `left()` seconds, which may raise; `cancel` does not reach a shielded one."""
        before = self._left, self._shielded
        self._left, self._shielded, self._socket = left, shielded, None
        try:
            yield
        finally:
            self._left, self._shielded = before
            self._socket = None

    def cancel(self) -> None:
        waited_for = self._socket
        if waited_for is not None:
            shut_down(waited_for)

    def mount(self, session: requests.Session) -> None:
        adapter = _TimedAdapter(self)
        session.mount("https://", adapter)
        session.mount("http://", adapter)

    def left(self) -> float:
        """Seconds that a request may take now; TimedOut when there are none."""
        return self._left()

    def note(self, waited_for: socket.socket) -> None:
        """Keep the socket for `cancel`. One that came before there was a socket to shut down ends the request here."""
        if not self._shielded:
            self._socket = waited_for
        self.left()


class _TimedAdapter(ReachableAdapter):
    """Gives every request its timeout: the libraries' own are longer than a collection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__(connections.note)

    def send(  # noqa: PLR0917 - the signature of the class that it overrides
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,  # noqa: ARG002 - replaced, see above
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        left = self._connections.left()
        times = min(left, _LONGEST_CONNECT), left
        return super().send(request, stream=stream, timeout=times, verify=verify, cert=cert, proxies=proxies)


class _TokenSession(requests.Session):
    """Raises errors of ours for what may pass, for google-auth would wait and try again by itself, deadline or not."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - handed on as they are
        try:
            response = super().request(*args, **kwargs)
        except requests.Timeout:
            raise TimedOut("the server that gives tokens did not answer in time") from None
        except requests.ConnectionError as error:
            raise Unreachable(f"the server that gives tokens cannot be reached: {innermost(error)}") from None
        if response.status_code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ServerFailed(f"the server that gives tokens answered {response.status_code} {response.reason}")
        return response


def innermost(error: BaseException) -> str:
    """The innermost reason of a connection failure, such as `Connection refused`."""
    inner = error
    while isinstance(cause := getattr(inner, "reason", None) or (inner.args or (None,))[0], BaseException):
        inner = cause
    return str(inner).rpartition(": ")[2] or type(inner).__name__


def _closed() -> float:
    raise TimedOut("no collection is running")


def account_key(config: BigQueryConfig, collection: Collection) -> str | None:
    """Text of the service account's key, hidden from now on; None where the source has none."""
    text = collection.secrets.secret(env=config.credentials_env, file=config.credentials_file)
    if text is None:
        return None
    try:
        info = json.loads(text)
    except ValueError:
        info = None
    for name in ("private_key", "private_key_id"):
        secret = info.get(name) if isinstance(info, dict) else None
        collection.secrets.hide(secret if isinstance(secret, str) else "")
    return text


def credentials_of(config: BigQueryConfig, key: str | None, connections: Connections) -> Credentials:
    """Anonymous, of a service account's key, or the application default. SecretMissing for a key that is none."""
    if config.credentials == "none":
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # Google's libraries are typed in part
    if key is None:
        session = requests.Session()
        connections.mount(session)
        found, _ = google.auth.default(scopes=_SCOPES, request=Request(session))
        return found
    where = config.credentials_env or config.credentials_file
    try:
        info: dict[str, Any] = json.loads(key)
        from_info: Callable[..., Credentials] = service_account.Credentials.from_service_account_info
        return from_info(info, scopes=_SCOPES)
    except (ValueError, TypeError, AttributeError, KeyError):  # whose texts may quote the key
        raise SecretMissing(
            f"{where} holds no service account key: it must be the JSON that Google Cloud gives for one, "
            "with client_email, private_key and token_uri"
        ) from None


def client_of(config: BigQueryConfig, credentials: Credentials, connections: Connections) -> bigquery.Client:
    """A client whose every request goes over `connections`."""
    tokens = _TokenSession()
    connections.mount(tokens)
    anonymous = isinstance(credentials, AnonymousCredentials)
    refresh = {"refresh_status_codes": ()} if anonymous else {}  # there is nothing to refresh after a 401
    session_of: Callable[..., AuthorizedSession] = AuthorizedSession  # typed in part
    session = session_of(credentials, auth_request=Request(tokens), **refresh)
    connections.mount(session)
    options = ClientOptions(api_endpoint=config.endpoint) if config.endpoint else None
    return bigquery.Client(project=config.project, credentials=credentials, _http=session, client_options=options)


def require_storage_library() -> None:
    """Unsupported where the Storage API's library is not installed."""
    if importlib.util.find_spec("google.cloud.bigquery_storage") is None:
        raise Unsupported(
            "storage_api needs google-cloud-bigquery-storage, which is not installed: "
            "pip install google-cloud-bigquery-storage, or remove storage_api"
        )


def storage_client(credentials: Credentials) -> Any:  # noqa: ANN401 - its library may not be installed
    from google.cloud.bigquery_storage import BigQueryReadClient  # noqa: PLC0415 - optional

    return BigQueryReadClient(credentials=credentials)  # type: ignore[no-untyped-call]  # Google's libraries are typed in part
