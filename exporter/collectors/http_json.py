"""Requests over HTTP: tried again inside the deadline, capped in size, cancelled at any moment; answers as JSON."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from warnings import filterwarnings

import requests
import tenacity
import urllib3

from exporter.collectors.base import Collection
from exporter.collectors.http_auth import Credentials
from exporter.collectors.http_errors import LOOKED_AT, excerpt_of, no_connection, place, refusal
from exporter.collectors.http_source import HttpSourceConfig, Route, route_of
from exporter.collectors.reachable_http import ReachableAdapter
from exporter.collectors.sockets import shut_down
from exporter.errors import BadAnswer, BudgetExceeded, CollectError, TimedOut

T = TypeVar("T")
NOT_MODIFIED = 304
_REFUSED_FROM = 300
_ATTEMPTS = 4
_CHUNK = 256 * 1024
_LONGEST_CONNECT = 10.0
_MOST_REDIRECTS = 5
_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)


@dataclass(frozen=True, slots=True)
class Call:
    """One request; its body is JSON, or a form's fields, or nothing."""

    url: str
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer. `digest` is the same for the same bytes; `data` is None when `status` is 304."""

    status: int
    url: str
    headers: Mapping[str, str]
    links: Mapping[str, Mapping[str, str]]
    digest: bytes
    data: object


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """How an answer is read, what an error's body says in words, and what a 400 with such words means."""

    read: Callable[[requests.Response, Collection], T]
    words: Callable[[bytes], str] = lambda _: ""
    bad_request: type[CollectError] = BadAnswer


class HttpClient:
    """One session for one source; requests are made from one thread, `cancel` comes from any."""

    def __init__(self, config: HttpSourceConfig) -> None:
        self._config = config
        self._session = _Session(guarded=config.tls.cert_file is not None)
        self._session.headers.update({"Accept": "application/json", "User-Agent": "sentinel-exporter"})
        adapter = ReachableAdapter(self._waits_for)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._collection: Collection | None = None
        self._socket: socket.socket | None = None
        if not config.tls.verify:
            # Told once in each collection, as a warning that is counted, instead of once in each request.
            filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)

    def json(self, call: Call, auth: Credentials | None, collection: Collection) -> Answer:
        """The decoded answer."""
        return self.ask(call, auth, collection, Reading(self.decoded))

    def ask(self, call: Call, auth: Credentials | None, collection: Collection, reading: Reading[T]) -> T:
        """What `reading` makes of the answer. 429, 5xx and broken connections are tried again while time is left."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CollectError) and error.retryable),
            wait=_wait,
            stop=lambda state: (
                state.attempt_number >= _ATTEMPTS
                or isinstance(_failure(state), TimedOut)
                or collection.clock() + state.upcoming_sleep >= collection.deadline
            ),
            sleep=collection.sleep,
            reraise=True,
        )
        answer: T = attempts(self._once, call, auth, collection, reading)
        return answer

    def chunks(self, response: requests.Response, collection: Collection) -> Iterator[bytes]:
        """The body, decompressed, as it comes; BudgetExceeded as soon as it is known to be longer than allowed."""
        allowed = self._config.max_response_bytes
        too_large = f"the answer is larger than max_response_bytes ({allowed})"
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > allowed:
            raise BudgetExceeded(too_large)
        size = 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > allowed:
                raise BudgetExceeded(too_large)
            collection.remaining()
            yield chunk
        collection.remaining()  # an answer that was cut off by `cancel` may look like one that ended

    def cancel(self) -> None:
        waited_for = self._socket
        if waited_for is not None:
            shut_down(waited_for)

    def close(self) -> None:
        self._session.close()

    def _waits_for(self, waited_for: socket.socket) -> None:
        """Keep the socket for `cancel`. One that came before there was a socket to shut down ends the request here."""
        self._socket = waited_for
        if self._collection is not None:
            self._collection.remaining()

    def _once(self, call: Call, auth: Credentials | None, collection: Collection, reading: Reading[T]) -> T:
        where = place(call.url)
        route = route_of(self._config, collection.secrets)
        collection.remaining()
        self._collection = collection
        try:
            with self._sent(call, auth, collection, route) as response:
                if response.status_code >= _REFUSED_FROM and response.status_code != NOT_MODIFIED:
                    body = next(response.iter_content(LOOKED_AT), b"")
                    words = collection.secrets.redact(reading.words(body))
                    raise refusal(response, words, excerpt_of(body, collection.secrets), auth, reading.bad_request)
                return reading.read(response, collection)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise TimedOut(f"{where} did not answer in time") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            collection.remaining()  # a connection that was cancelled is a timeout
            raise no_connection(error, where) from None
        except (requests.exceptions.ContentDecodingError, urllib3.exceptions.HTTPError) as error:
            collection.remaining()
            raise BadAnswer(f"{where}: the answer's compression is damaged ({type(error).__name__})") from None
        except requests.RequestException as error:
            raise BadAnswer(f"{where}: {type(error).__name__}: {error}") from None
        finally:
            self._collection = self._socket = None

    def _sent(self, call: Call, auth: Credentials | None, collection: Collection, route: Route) -> requests.Response:
        left = collection.remaining()
        return self._session.request(
            call.method,
            call.url,
            params=call.params,
            data=call.form,
            json=call.json,
            headers=dict(call.headers),
            auth=auth or _no_auth,
            stream=True,
            timeout=(min(left, _LONGEST_CONNECT), left),
            verify=route.verify,
            cert=route.cert,
            proxies=route.proxies,
        )

    def decoded(self, response: requests.Response, collection: Collection) -> Answer:
        """The whole answer as JSON, where nothing else than its size limits it."""
        if response.status_code == NOT_MODIFIED:
            return Answer(NOT_MODIFIED, response.url, response.headers, {}, b"", None)
        body = b"".join(self.chunks(response, collection))
        digest = hashlib.blake2b(body, digest_size=16).digest()
        data = _decoded(response, body, collection)
        return Answer(response.status_code, response.url, response.headers, response.links, digest, data)


class _Session(requests.Session):
    """Follows redirects, but shows a server that it was sent to by another one nothing that proves who asks."""

    def __init__(self, *, guarded: bool) -> None:
        """`guarded` where there is a client certificate, which requests would show to any server."""
        super().__init__()
        self.max_redirects = _MOST_REDIRECTS
        self._guarded = guarded

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        old, new = str(response.request.url), str(prepared_request.url)
        if not self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]  # the stubs lack its types
            return
        if self._guarded or prepared_request.method not in ("GET", "HEAD"):
            raise BadAnswer(
                f"{place(old)} sends on to another server, {place(new)}: if it is right, set it as endpoint"
            )
        for name in set(prepared_request.headers) - set(self.headers) - {"Proxy-Authorization"}:
            del prepared_request.headers[name]


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """So that requests takes none from a `.netrc` file."""
    return request


def _wait(state: tenacity.RetryCallState) -> float:
    failure = _failure(state)
    asked = failure.retry_after if isinstance(failure, CollectError) else None
    return _backoff(state) if asked is None else asked


def _failure(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _decoded(response: requests.Response, body: bytes, collection: Collection) -> object:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    said = f"{place(response.url)} answered {response.status_code} with"
    excerpt = excerpt_of(body, collection.secrets)
    try:
        return json.loads(body)
    except RecursionError:
        raise BadAnswer(f"{said} JSON that is nested too deeply: that is no JSON of rows. {excerpt}") from None
    except ValueError as error:
        if kind == "text/html" or body.lstrip()[:1] == b"<":
            what = "HTML, not JSON: is the endpoint right, or is there a login page in between?"
        else:
            what = f"something that is no JSON ({kind or 'no content type'})."
        cut = f", and breaks off after {len(body)} bytes" if _breaks_off(error) and body.strip() else ""
        raise BadAnswer(f"{said} {what} {excerpt}{cut}{_unpacked(response)}") from None


def _unpacked(response: requests.Response) -> str:
    """What the body was unpacked from. A compressed body that is cut unpacks without an error, as far as it goes."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return ""
    return f". It was unpacked from {response.raw.tell()} bytes of {encoding}: were they cut on their way?"


def _breaks_off(error: ValueError) -> bool:
    """Whether JSON is right up to its end, but has none: cut on its way, or compressed incompletely."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
