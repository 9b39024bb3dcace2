"""What a worker shows of itself: metrics, and whether it works. No framework: three addresses, read only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, make_wsgi_app
from werkzeug.exceptions import NotFound
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from webhook.web.scraping import refused

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Check = Callable[[], str]
"""Why not; empty when all is well."""


def status_app(registry: CollectorRegistry, *, healthy: Check, ready: Check, token: str = "") -> WSGIApplication:
    """`/metrics`, for who brings `token`, `/-/healthy` and `/-/ready`, the latter two 503 with the reason in words."""
    metrics = make_wsgi_app(registry)
    checks = {"/-/healthy": healthy, "/-/ready": ready}

    def app(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment.get("PATH_INFO", "")
        if path == "/metrics":
            refusal = refused(environment.get("HTTP_AUTHORIZATION", ""), token)
            shown: Iterable[bytes] = (refusal or metrics)(environment, start)
            return shown
        check = checks.get(path)
        if check is None:
            return NotFound("Here are /metrics, /-/healthy and /-/ready.").get_response(environment)(environment, start)
        why_not = check()
        status = HTTPStatus.SERVICE_UNAVAILABLE if why_not else HTTPStatus.OK
        return Response(f"{why_not or path.removeprefix('/-/')}\n", status)(environment, start)

    return app


def serve_status(app: WSGIApplication, host: str, port: int) -> Callable[[], None]:
    """Serve in a thread of its own; return what ends it. Raise OSError for an address that cannot be listened on."""
    listener = socket.create_server((host, port))  # of a taken port werkzeug would end the process
    server = make_server(host, port, app, threaded=True, request_handler=_Silent, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, name="status", daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        listener.close()
        thread.join()

    return end


class _Silent(WSGIRequestHandler):
    """Scrapes and probes leave no line in the log."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
