"""Slack as far as Sentinel uses it: a real HTTP server that answers as Slack documents.

with SlackStub() as slack:
    …  SENTINEL_SLACK_API_URL=slack.url, any bot token that is not in `bad_tokens`
    slack.messages   # bodies of accepted chat.postMessage calls, with `ts`, oldest first, as they were posted
    slack.shown(ts)  # a message as it stands now, after chat.update
    slack.files      # PNGs that were shared into a channel, oldest first
    slack.told, slack.views   # what one person alone was told; forms that were opened
    slack.fail_next("chat.postMessage", error="is_archived")
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fakes_slack_blocks import block_errors, view_errors
from tests.stub_server import StubServer, reset, respond, respond_json

CHANNEL_ID = "C0FRAUD0001"
METHODS = (
    "auth.test",
    "chat.postEphemeral",
    "chat.postMessage",
    "chat.update",
    "conversations.history",
    "conversations.replies",
    "files.completeUploadExternal",
    "files.getUploadURLExternal",
    "upload",
    "response",  # the address that comes with what is pressed
    "views.open",
)


@dataclass(frozen=True)
class Failure:
    """How one call fails: a Slack error (HTTP 200), a status, an event to wait for, a broken connection, a body.

    `lost`: Slack does what was asked, and its answer gets lost.
    """

    error: str | None = None
    status: int = 200
    retry_after: int | None = None
    hold: threading.Event | None = None
    reset: bool = False
    body: bytes | None = None
    lost: bool = False


@dataclass
class Call:
    """One that came in, `at` a time of `time.perf_counter`."""

    method: str
    token: str
    parameters: dict[str, Any]
    at: float = field(default_factory=time.perf_counter)


@dataclass
class SlackStub(StubServer):
    """`url` is what SLACK_API_URL is set to. All lists may be read while the stub runs."""

    bad_tokens: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    shared: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    scopes: set[str] = field(default_factory=lambda: {"chat:write", "files:write", "channels:history"})
    _standing: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _uploads: dict[str, bytes] = field(default_factory=dict)
    _lengths: dict[str, int] = field(default_factory=dict)
    _failures: defaultdict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.origin}/api/"

    @property
    def files(self) -> list[bytes]:
        """Bytes of the files that were shared into a channel."""
        return [self._uploads[share["id"]] for share in self.shared]

    @property
    def response_url(self) -> str:
        """Where what is pressed is answered."""
        return f"{self.origin}/response/1"

    def shown(self, ts: str, channel: str = CHANNEL_ID) -> dict[str, Any]:
        """The message as it stands now."""
        return self._standing[channel, ts]

    @property
    def roots(self) -> list[dict[str, Any]]:
        """Messages that stand in channels as they are now, oldest first; broadcast replies are none."""
        return [message for message in self._standing.values() if not message.get("thread_ts")]

    def thread(self, ts: str) -> list[dict[str, Any]]:
        return [message for message in self._standing.values() if message.get("thread_ts") == ts]

    def post(self, channel: str, text: str, thread_ts: str | None = None) -> None:
        """As a person does."""
        with self._lock:
            self._post_message({"channel": channel, "text": text, "thread_ts": thread_ts})

    def delete(self, ts: str, channel: str = CHANNEL_ID) -> None:
        """As a person does."""
        del self._standing[channel, ts]

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Parameters of all calls of a method, failed ones too."""
        return [call.parameters for call in self.calls if call.method == method]

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
        lost: bool = False,
    ) -> None:
        """Let the next `times` calls of `method` (one of METHODS) fail; further ones queue behind.

        `hold`: they wait until the event is set, for ever if it never is.
        """
        failure = Failure(error, status, retry_after, hold, reset, body, lost)
        with self._lock:
            self._failures[method].extend([failure] * times)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        method = _method(request.path)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            parameters = {} if method == "upload" else _parameters(request, body)
            self.calls.append(Call(method, token, parameters))
            failure = self._failures[method].popleft() if self._failures[method] else None
        if failure is not None and not failure.lost and _fail(request, failure):
            return
        if method in ("upload", "response"):
            self._without_token(request, method, parameters, body)
            return
        answer = self._judged(method, token, parameters)
        if failure is not None and failure.lost:
            _fail(request, Failure(reset=True))
        else:
            respond_json(request, 200, answer)

    def _without_token(
        self, request: BaseHTTPRequestHandler, method: str, parameters: dict[str, Any], body: bytes
    ) -> None:
        if method == "upload":
            self._uploads[request.path.rsplit("/", 1)[1]] = body
            respond(request, 200, f"OK - {len(body)}".encode(), {"Content-Type": "text/plain"})
        else:
            self.told.append(parameters)
            respond(request, 200, b"ok", {"Content-Type": "text/plain"})

    def _judged(self, method: str, token: str, parameters: dict[str, Any]) -> dict[str, Any]:
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "auth.test": lambda _: {"ok": True, "user": "sentinel", "team": "Acme", "team_id": "T0ACME"},
            "chat.postEphemeral": self._post_ephemeral,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._history,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete,
            "views.open": self._open_view,
        }
        if method not in handlers:
            return {"ok": False, "error": "unknown_method"}
        if not token:
            return {"ok": False, "error": "not_authed"}
        if token in self.bad_tokens:
            return {"ok": False, "error": "invalid_auth"}
        needed = _scope(method)
        if needed and needed not in self.scopes:
            provided = ",".join(sorted(self.scopes))
            return {"ok": False, "error": "missing_scope", "needed": needed, "provided": provided}
        with self._lock:
            return handlers[method](parameters)

    def _refusal(self, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """What chat.postMessage and chat.update refuse alike."""
        blocks = parameters.get("blocks") or []
        if not parameters.get("channel"):
            return {"ok": False, "error": "channel_not_found"}
        if not parameters.get("text") and not blocks:
            return {"ok": False, "error": "no_text"}
        if len(parameters.get("text", "")) > 40_000:
            return {"ok": False, "error": "msg_too_long"}
        wrong = block_errors(blocks)
        if wrong:
            return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": wrong}}
        return None

    def _post_message(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if (refusal := self._refusal(parameters)) is not None:
            return refusal
        channel = str(parameters["channel"])
        channel = channel if channel.startswith("C") else CHANNEL_ID
        thread = parameters.get("thread_ts")
        if thread and (channel, thread) not in self._standing:
            return {"ok": False, "error": "thread_not_found"}
        metadata = parameters.get("metadata")
        if metadata is not None and set(metadata) != {"event_type", "event_payload"}:
            return {"ok": False, "error": "invalid_metadata_format"}
        ts = f"1763719200.{len(self.messages) + 1:06d}"
        self.messages.append({**parameters, "ts": ts})
        self._standing[channel, ts] = {**parameters, "ts": ts}
        return {"ok": True, "channel": channel, "ts": ts, "message": {"type": "message", "ts": ts}}

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Metadata that is not given stays; so do channel and thread."""
        if (refusal := self._refusal(parameters)) is not None:
            return refusal
        channel, ts = str(parameters["channel"]), str(parameters.get("ts"))
        if not channel.startswith("C"):
            return {"ok": False, "error": "channel_not_found"}
        if (channel, ts) not in self._standing:
            return {"ok": False, "error": "message_not_found"}
        self._standing[channel, ts] |= {name: parameters[name] for name in ("text", "blocks") if name in parameters}
        return {"ok": True, "channel": channel, "ts": ts, "text": parameters.get("text", "")}

    def _history(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Of a channel, newest first, or of a thread, oldest first. Times of messages here mean nothing."""
        channel, thread = parameters.get("channel", ""), parameters.get("ts")
        if not channel.startswith("C"):
            return {"ok": False, "error": "channel_not_found"}
        if thread and (channel, thread) not in self._standing:
            return {"ok": False, "error": "thread_not_found"}
        found = [message for (place, _), message in self._standing.items() if place == channel]
        if thread:
            found = [message for message in found if thread in (message["ts"], message.get("thread_ts"))]
        else:
            hidden = [message for message in found if message.get("thread_ts") and not message.get("reply_broadcast")]
            found = [message for message in reversed(found) if message not in hidden]
        if parameters.get("include_all_metadata") not in ("1", "true", True):
            found = [{name: value for name, value in message.items() if name != "metadata"} for message in found]
        begin, limit = int(parameters.get("cursor") or 0), int(parameters.get("limit", 100))
        more = begin + limit < len(found)
        shown, following = found[begin : begin + limit], str(begin + limit) if more else ""
        return {"ok": True, "messages": shown, "has_more": more, "response_metadata": {"next_cursor": following}}

    def _post_ephemeral(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters.get("user"):
            return {"ok": False, "error": "user_not_in_channel"}
        if not parameters.get("text"):
            return {"ok": False, "error": "no_text"}
        self.told.append(parameters)
        return {"ok": True, "message_ts": "1763719200.900000"}

    def _open_view(self, parameters: dict[str, Any]) -> dict[str, Any]:
        view = parameters.get("view") or {}
        view = json.loads(view) if isinstance(view, str) else view
        if not parameters.get("trigger_id"):
            return {"ok": False, "error": "invalid_trigger_id"}
        wrong = view_errors(view)
        if wrong:
            return {"ok": False, "error": "invalid_arguments", "response_metadata": {"messages": wrong}}
        self.views.append(view)
        return {"ok": True, "view": {"id": f"V{len(self.views)}", **view}}

    def _upload_url(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters.get("filename") or not int(parameters.get("length", 0)):
            return {"ok": False, "error": "invalid_arguments"}
        file_id = f"F{len(self._lengths) + 1:010d}"
        self._lengths[file_id] = int(parameters["length"])
        return {"ok": True, "file_id": file_id, "upload_url": f"{self.origin}/upload/v1/{file_id}"}

    def _complete(self, parameters: dict[str, Any]) -> dict[str, Any]:
        files = parameters["files"]
        files = json.loads(files) if isinstance(files, str) else files
        for entry in files:
            if len(self._uploads.get(entry["id"], b"")) != self._lengths.get(entry["id"]):
                return {"ok": False, "error": "file_not_found"}
        channel = parameters.get("channel_id") or parameters.get("channels")
        if not str(channel).startswith("C"):  # uploads take ids, not names
            return {"ok": False, "error": "channel_not_found"}
        shared = [{**entry, "channel": channel, "thread_ts": parameters.get("thread_ts")} for entry in files]
        self.shared.extend(shared)
        return {"ok": True, "files": [{"id": entry["id"], "title": entry.get("title")} for entry in files]}


def _method(path: str) -> str:
    """`chat.update` of `/api/chat.update`; `upload` and `response` are addresses of their own."""
    first = path.split("?", maxsplit=1)[0].strip("/").split("/")
    return first[1] if first[0] == "api" and len(first) > 1 else first[0]


def _scope(method: str) -> str | None:
    kinds = {"chat": "chat:write", "conversations": "channels:history", "files": "files:write"}
    return kinds.get(method.split(".", maxsplit=1)[0])


def _parameters(request: BaseHTTPRequestHandler, body: bytes) -> dict[str, Any]:
    asked: dict[str, Any] = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
    if request.headers.get("Content-Type", "").startswith("application/json"):
        asked |= json.loads(body or b"{}")
    else:
        asked |= dict(parse_qsl(body.decode(), keep_blank_values=True))
    for name in ("blocks", "metadata"):
        if isinstance(asked.get(name), str):
            asked[name] = json.loads(asked[name])
    return asked


def _fail(request: BaseHTTPRequestHandler, failure: Failure) -> bool:
    """Answer with the failure; False when it was only held up."""
    if failure.hold:
        failure.hold.wait()
    if failure.reset:
        reset(request)
        return True
    if failure.body is not None:
        respond(request, failure.status, failure.body, {"Content-Type": "text/html"})
    elif failure.error or failure.status != 200:
        headers = {"Retry-After": str(failure.retry_after)} if failure.retry_after is not None else {}
        usual = {429: "ratelimited", 403: "access_denied"}
        error = failure.error or usual.get(failure.status, "internal_error")
        respond_json(request, failure.status, {"ok": False, "error": error}, headers)
    else:
        return False
    return True
