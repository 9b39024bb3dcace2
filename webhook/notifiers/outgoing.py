"""Requests to providers, kept to a deadline; those to addresses that merchants give never into our own network.

An address is checked when it is saved, and again when the connection is made: the socket is opened to an address that
was just checked, so a name that changes its mind in between gains nothing. Redirects are not followed, proxies of the
environment are not used.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from webhook.notifiers.deadline import Deadline, current, resolved, seconds_left

_LONGEST = 2048
_NOT_GLOBAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64 and 6to4 lead on to IPv4 addresses
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "100::/64",
        "::/96",
        "fec0::/10",
    )
)

_TRIED = 2
"""Addresses of one host."""

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as texts; raises OSError."""


class ForbiddenAddress(ValueError):  # noqa: N818 - a value that is refused
    """An address that must not be asked; the words name the host at most."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet: not private, loopback, link-local, shared, multicast."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return False
    return (
        ip.is_global and not ip.is_multicast and not any(ip in net for net in _NOT_GLOBAL if net.version == ip.version)
    )


def check_url(url: str, *, allow_http: bool = False) -> str:
    """The URL when its form is safe; raise ForbiddenAddress. Names are not looked up, see `check_host`."""
    if len(url) > _LONGEST or not url.isprintable() or any(mark in url for mark in " \\"):
        raise ForbiddenAddress("must be a URL without spaces, at most 2048 characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ForbiddenAddress("must be a URL") from None
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        raise ForbiddenAddress("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("must not hold a user name or password")
    _check_name(host, allow_http=allow_http)
    return url


def _check_name(host: str, *, allow_http: bool) -> None:
    """Refuse what can be told from the name alone: numbers in any notation, local names."""
    if not host:
        raise ForbiddenAddress("must name a host")
    if allow_http:  # a demo or a test of one's own
        return
    literal = _literal(host)
    if literal is not None and not is_public(literal):
        raise ForbiddenAddress("must not lead to a private or local address")
    if literal is None and "." not in host.rstrip("."):
        raise ForbiddenAddress("must name a host with its domain")


def _literal(host: str) -> str | None:
    """The IP address that a host is written as: `127.1`, `0x7f000001` and `2130706433` are loopback too."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(_ascii(host).rstrip(".")))
    except (OSError, ForbiddenAddress):
        return None


def _ascii(host: str) -> str:
    """The name as the resolver gets it: full-width digits and dots become plain ones."""
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ForbiddenAddress("must name a host that exists") from None


def resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(_ascii(host), port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def public_addresses(host: str, port: int, lookup: Resolve = resolve) -> Sequence[str]:
    """The addresses of a host, all of them public; raise ForbiddenAddress or OSError."""
    addresses = lookup(host.strip("[]"), port)
    if not addresses or not all(is_public(address) for address in addresses):
        raise ForbiddenAddress(f"{host} leads to a private or local address")
    return addresses


def check_host(url: str, lookup: Resolve = resolve) -> None:
    """Look the host up, as at the time of saving; raise ForbiddenAddress, of an unknown name too."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        public_addresses(host, parts.port or 443, lookup)
    except OSError:
        raise ForbiddenAddress(f"{host} cannot be found") from None


def check_hosts(channels: Mapping[str, Mapping[str, Any]], lookup: Resolve = resolve) -> None:
    """Check each webhook, and look up the hosts of enabled ones; raise ForbiddenAddress that names the field."""
    for name, settings in channels.items():
        if url := settings.get("webhook_url"):
            try:
                check_url(str(url))
                if settings.get("enabled", True):
                    check_host(str(url), lookup)
            except ForbiddenAddress as error:
                raise ForbiddenAddress(f"channels.{name}.webhook_url: {error}") from None


class _Timed:
    """Connects within the thread's deadline, to addresses that were just looked up, under the name that was asked for.

    The deadline is told of the socket, also of one that was kept, and whether anything was said to the other side.
    """

    look: Resolve
    host: str
    port: int
    timeout: float | None
    sock: socket.socket | None
    _dns_host: str
    _noted_by: Deadline | None = None

    def _new_conn(self) -> socket.socket:
        name, last, until = self._dns_host, None, current()
        for address in resolved(self.look, name, self.port)[:_TRIED]:
            self._dns_host = address
            self.timeout = seconds_left(self.timeout)
            try:
                connected: socket.socket = super()._new_conn()  # type: ignore[misc]
            except HTTPError as error:
                last = error
            else:
                if until is not None:
                    until.note(connected)
                self._noted_by = until
                return connected
            finally:
                self._dns_host = name  # TLS checks the certificate against it
        raise last or OSError("no address")

    def connect(self) -> None:
        """A tunnel is asked of a proxy, which hands nothing over."""
        try:
            super().connect()  # type: ignore[misc]
        finally:
            if (until := current()) is not None:
                until.handed_over = False

    def send(self, data: Any) -> None:  # noqa: ANN401 - http.client's signature
        if self.sock is None:
            self.connect()
        if (until := current()) is not None:
            if self._noted_by is not until and self.sock is not None:
                until.note(self.sock)
                self._noted_by = until
            until.handed_over = True
        super().send(data)  # type: ignore[misc]


class _TimedAdapter(HTTPAdapter):
    def __init__(self, look: Resolve) -> None:
        found = {"look": staticmethod(look)}
        self._plain = type("TimedConnection", (_Timed, HTTPConnection), found)
        self._secure = type("TimedSecureConnection", (_Timed, HTTPSConnection), found)
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        assert isinstance(pool, HTTPConnectionPool)
        pool.ConnectionCls = self._secure if isinstance(pool, HTTPSConnectionPool) else self._plain
        return pool


def guarded_session(lookup: Resolve = resolve, *, allow_private: bool = False) -> requests.Session:
    """A session whose connections go to public addresses alone; `allow_private` is for a demo or test of one's own."""
    session = timed(requests.Session(), resolve if allow_private else partial(public_addresses, lookup=lookup))
    session.trust_env = False
    return session


def timed(session: requests.Session, look: Resolve = resolve) -> requests.Session:
    """The session, its calls kept to the deadline of the thread that makes them."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, _TimedAdapter(look))
    return session
