"""Slack as far as Sentinel uses it: a real HTTP server with four endpoints that answers as Slack documents.

with SlackStub() as slack:
    …  SENTINEL_SLACK_API_URL=slack.url, any bot token that is not in `bad_tokens`
    slack.messages   # bodies of accepted chat.postMessage calls, with `ts`, oldest first
    slack.files      # PNGs that were shared into a channel, oldest first
    slack.fail_next("chat.postMessage", error="is_archived")
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

CHANNEL_ID = "C0FRAUD0001"
METHODS = ("chat.postMessage", "files.getUploadURLExternal", "upload", "files.completeUploadExternal")


@dataclass(frozen=True)
class Failure:
    """How one call fails: a Slack error (HTTP 200), a status, an event to wait for, a broken connection, a body."""

    error: str | None = None
    status: int = 200
    retry_after: int | None = None
    hold: threading.Event | None = None
    reset: bool = False
    body: bytes | None = None


@dataclass
class Call:
    """One that came in, `at` a time of `time.perf_counter`."""

    method: str
    token: str
    parameters: dict[str, Any]
    at: float = field(default_factory=time.perf_counter)


@dataclass
class SlackStub:
    """`url` is what SLACK_API_URL is set to. All lists may be read while the stub runs."""

    bad_tokens: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    shared: list[dict[str, Any]] = field(default_factory=list)
    _uploads: dict[str, bytes] = field(default_factory=dict)
    _lengths: dict[str, int] = field(default_factory=dict)
    _failures: defaultdict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"{self._origin}/api/"

    @property
    def files(self) -> list[bytes]:
        """Bytes of the files that were shared into a channel."""
        return [self._uploads[share["id"]] for share in self.shared]

    def fail_next(
        self,
        method: str = "chat.postMessage",
        *,
        times: int = 1,
        error: str | None = None,
        status: int = 200,
        retry_after: int | None = None,
        hold: threading.Event | None = None,
        reset: bool = False,
        body: bytes | None = None,
    ) -> None:
        """Let the next `times` calls of `method` (one of METHODS) fail; further ones queue behind.

        `hold`: they wait until the event is set, for ever if it never is.
        """
        failure = Failure(error, status, retry_after, hold, reset, body)
        with self._lock:
            self._failures[method].extend([failure] * times)

    @property
    def _origin(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        method = "upload" if request.path.startswith("/upload/") else request.path.removeprefix("/api/").split("?")[0]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            parameters = {} if method == "upload" else _parameters(request.headers.get("Content-Type", ""), body)
            self.calls.append(Call(method, token, parameters))
            failure = self._failures[method].popleft() if self._failures[method] else None
        if failure is not None and _fail(request, failure):
            return
        if method == "upload":
            file_id = request.path.rsplit("/", 1)[1]
            self._uploads[file_id] = body
            _respond(request, 200, f"OK - {len(body)}".encode(), "text/plain")
            return
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "chat.postMessage": self._post_message,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete,
        }
        if method not in handlers:
            _json(request, {"ok": False, "error": "unknown_method"})
        elif not token:
            _json(request, {"ok": False, "error": "not_authed"})
        elif token in self.bad_tokens:
            _json(request, {"ok": False, "error": "invalid_auth"})
        else:
            with self._lock:
                answer = handlers[method](parameters)
            _json(request, answer)

    def _post_message(self, parameters: dict[str, Any]) -> dict[str, Any]:
        blocks = parameters.get("blocks") or []
        if isinstance(blocks, str):
            blocks = json.loads(blocks)
        if not parameters.get("channel"):
            return {"ok": False, "error": "channel_not_found"}
        if not parameters.get("text") and not blocks:
            return {"ok": False, "error": "no_text"}
        wrong = block_errors(blocks)
        if wrong:
            return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": wrong}}
        ts = f"1763719200.{len(self.messages) + 1:06d}"
        self.messages.append({**parameters, "blocks": blocks, "ts": ts})
        return {"ok": True, "channel": CHANNEL_ID, "ts": ts, "message": {"type": "message", "ts": ts}}

    def _upload_url(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters.get("filename") or not int(parameters.get("length", 0)):
            return {"ok": False, "error": "invalid_arguments"}
        file_id = f"F{len(self._lengths) + 1:010d}"
        self._lengths[file_id] = int(parameters["length"])
        return {"ok": True, "file_id": file_id, "upload_url": f"{self._origin}/upload/v1/{file_id}"}

    def _complete(self, parameters: dict[str, Any]) -> dict[str, Any]:
        files = parameters["files"]
        files = json.loads(files) if isinstance(files, str) else files
        for entry in files:
            if len(self._uploads.get(entry["id"], b"")) != self._lengths.get(entry["id"]):
                return {"ok": False, "error": "file_not_found"}
        channel = parameters.get("channel_id") or parameters.get("channels")
        if channel != CHANNEL_ID:  # uploads take ids, not names
            return {"ok": False, "error": "channel_not_found"}
        shared = [{**entry, "channel": channel, "thread_ts": parameters.get("thread_ts")} for entry in files]
        self.shared.extend(shared)
        return {"ok": True, "files": [{"id": entry["id"], "title": entry.get("title")} for entry in files]}


def block_errors(blocks: list[dict[str, Any]]) -> list[str]:
    """What Slack would refuse: its limits on the number of blocks, fields and characters."""
    wrong = ["more than 50 blocks"] if len(blocks) > 50 else []
    limits = {"header": 150, "section": 3000, "context": 2000}
    for block in blocks:
        limit = limits.get(block["type"], 3000)
        texts = [block["text"]] if "text" in block else []
        if len(block.get("fields", [])) > 10:
            wrong.append("more than 10 fields")
        if any(not 1 <= len(entry["text"]) <= 2000 for entry in block.get("fields", [])):
            wrong.append("field length")
        elements = block.get("elements", [])
        texts += [element for element in elements if block["type"] == "context"]
        if any(not 1 <= len(text["text"]) <= limit for text in texts):
            wrong.append(f"{block['type']} length")
        if any(len(element["text"]["text"]) > 75 for element in elements if element["type"] == "button"):
            wrong.append("button length")
    return wrong


def _parameters(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type.startswith("application/json"):
        parsed: dict[str, Any] = json.loads(body)
        return parsed
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def _fail(request: BaseHTTPRequestHandler, failure: Failure) -> bool:
    """Answer with the failure; False when it was only held up."""
    if failure.hold:
        failure.hold.wait()
    if failure.reset:
        request.close_connection = True
        request.connection.close()
        return True
    if failure.body is not None:
        _respond(request, failure.status, failure.body, "text/html")
    elif failure.error or failure.status != 200:
        headers = {"Retry-After": str(failure.retry_after)} if failure.retry_after is not None else {}
        usual = {429: "ratelimited", 403: "access_denied"}
        error = failure.error or usual.get(failure.status, "internal_error")
        _json(request, {"ok": False, "error": error}, failure.status, headers)
    else:
        return False
    return True


def _json(
    request: BaseHTTPRequestHandler, answer: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> None:
    _respond(request, status, json.dumps(answer).encode(), "application/json; charset=utf-8", headers)


def _respond(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    content_type: str,
    headers: dict[str, str] | None = None,
) -> None:
    try:
        request.send_response(status)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
    except OSError:
        pass  # the client had no patience
