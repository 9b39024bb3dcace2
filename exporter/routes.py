"""What the exporter answers to a request: paths, methods, access, and the pages' headers. Knows no socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import structlog
from isal import igzip

from exporter.access import Access
from exporter.errors import ExporterError
from exporter.exposition import CONTENT_TYPES, Form
from exporter.negotiation import accepted_form, accepts_gzip
from exporter.reload import Changes
from exporter.status_assets import CONTENT_SECURITY_POLICY
from exporter.status_page import Filter

log = structlog.get_logger()
TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_MOST_FIELDS = 1000
_WORTH_COMPRESSING = 1024
_READ = ("GET", "HEAD")


class Site(Protocol):
    """What the server shows."""

    @property
    def ready(self) -> bool: ...

    @property
    def healthy(self) -> bool: ...

    def metrics(self, *, gzip: bool, form: Form, names: Sequence[str], sources: Sequence[str]) -> list[bytes]:
        """A whole scrape, or the families and sources named. Unknown names give a valid answer without samples."""

    def status_page(self, shown: Filter) -> str: ...

    def config_page(self) -> str:
        """The configuration as YAML, without any secret."""

    def reload(self) -> Changes:
        """Load the configuration again; ExporterError when that changed nothing because it has problems."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, header names in lower case."""

    method: str
    target: str
    peer: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. The parts together are the body; of a HEAD, only their length is told."""

    status: HTTPStatus
    content_type: str
    parts: Sequence[bytes]
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def text(cls, status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
        return cls(status, TEXT, (f"{text}\n".encode(),), headers)


@dataclass(frozen=True, slots=True)
class _Route:
    """Methods of a path, and what answers them. An open route needs no credentials."""

    methods: tuple[str, ...]
    answer: Callable[[Routes, Request, Mapping[str, list[str]]], Answer]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Routes:
    """The site behind its access rules."""

    site: Site
    access: Access
    allow_reload: bool = False

    def answer(self, request: Request) -> Answer:
        try:
            parts = urlsplit(request.target)
            query = parse_qs(parts.query, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return Answer.text(HTTPStatus.BAD_REQUEST, "the URL cannot be read")
        route = _ROUTES.get(parts.path)
        if not (route and route.open) and not self.access.admits(request.header("authorization")):
            log.info("request refused", reason="credentials", client=request.peer, path=parts.path[:100])
            challenges = (("WWW-Authenticate", challenge) for challenge in self.access.challenges)
            return Answer.text(HTTPStatus.UNAUTHORIZED, "a user and password, or a token, is needed", *challenges)
        if route is None:
            return Answer.text(HTTPStatus.NOT_FOUND, f"not found: there are {', '.join(_ROUTES)}")
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            return Answer.text(HTTPStatus.METHOD_NOT_ALLOWED, f"{parts.path} takes {allowed} only", ("Allow", allowed))
        return route.answer(self, request, query)

    def metrics(self, request: Request, query: Mapping[str, list[str]]) -> Answer:
        gzip = accepts_gzip(request.header("accept-encoding"))
        form = accepted_form(request.header("accept"))
        names, sources = query.get("name[]", []), query.get("source[]", [])
        parts = self.site.metrics(gzip=gzip, form=form, names=names, sources=sources)
        headers = (("Vary", "Accept, Accept-Encoding"), *((("Content-Encoding", "gzip"),) if gzip else ()))
        return Answer(HTTPStatus.OK, CONTENT_TYPES[form], parts, headers)

    def status(self, request: Request, query: Mapping[str, list[str]]) -> Answer:
        page = self.site.status_page(Filter(query.get("q", [""])[0], query.get("state", [""])[0]))
        return _page(request, _HTML, page, ("Content-Security-Policy", CONTENT_SECURITY_POLICY))

    def config(self, request: Request, _: Mapping[str, list[str]]) -> Answer:
        return _page(request, "text/yaml; charset=utf-8", self.site.config_page())

    def healthy(self, _: Request, __: Mapping[str, list[str]]) -> Answer:
        if self.site.healthy:
            return Answer.text(HTTPStatus.OK, "healthy")
        return Answer.text(HTTPStatus.SERVICE_UNAVAILABLE, "no source is collected any more: restart the exporter")

    def ready(self, _: Request, __: Mapping[str, list[str]]) -> Answer:
        if self.site.ready:
            return Answer.text(HTTPStatus.OK, "ready")
        return Answer.text(HTTPStatus.SERVICE_UNAVAILABLE, "some sources have not been tried yet")

    def reload(self, request: Request, _: Mapping[str, list[str]]) -> Answer:
        refusal = self._why_not_reload(request)
        if refusal:
            log.info("request refused", reason="reload", client=request.peer)
            return Answer.text(HTTPStatus.FORBIDDEN, refusal)
        try:
            changes = self.site.reload()
        except ExporterError as error:
            return Answer.text(HTTPStatus.INTERNAL_SERVER_ERROR, f"not reloaded, nothing has changed:\n{error}")
        counts = ", ".join(f"{len(getattr(changes, key))} {key}" for key in ("kept", "changed", "added", "removed"))
        return Answer.text(HTTPStatus.OK, f"reloaded, sources: {counts}")

    def _why_not_reload(self, request: Request) -> str:
        """Empty when the client may. A page of another site must not make a browser on this machine ask for it."""
        origin = request.header("origin")
        if origin and urlsplit(origin).netloc != request.header("host"):
            return "a page of another site may not ask for a reload"
        if self.access.required or self.allow_reload:
            return ""
        if not _loopback(request.peer) or request.header("forwarded") or request.header("x-forwarded-for"):
            return "only this machine may ask for a reload: set auth, or allow_reload, in the configuration"
        return ""


def _loopback(peer: str) -> bool:
    address = ipaddress.ip_address(peer.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _page(request: Request, content_type: str, text: str, *headers: tuple[str, str]) -> Answer:
    """A page for people: compressed, for one of hundreds of sources is long, and kept by no cache."""
    body = text.encode()
    headers = (*headers, ("Cache-Control", "no-store"), ("Vary", "Accept-Encoding"))
    if len(body) >= _WORTH_COMPRESSING and accepts_gzip(request.header("accept-encoding")):
        return Answer(HTTPStatus.OK, content_type, (igzip.compress(body, 1),), (*headers, ("Content-Encoding", "gzip")))
    return Answer(HTTPStatus.OK, content_type, (body,), headers)


_ROUTES: Mapping[str, _Route] = {
    "/": _Route(_READ, Routes.status),
    "/metrics": _Route(_READ, Routes.metrics),
    "/config": _Route(_READ, Routes.config),
    "/-/healthy": _Route(_READ, Routes.healthy, open=True),
    "/-/ready": _Route(_READ, Routes.ready, open=True),
    "/-/reload": _Route(("POST", "PUT"), Routes.reload),
}
