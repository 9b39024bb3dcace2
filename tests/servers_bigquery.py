"""BigQuery for the tests: the emulator, which runs queries, and a stub for cost, limits and failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import grpc
import pyarrow as pa
from servers import answers, free_port, running, service_folder
from servers_http import served

PROJECT = "risk-test"


@dataclass(frozen=True)
class Emulator:
    url: str
    grpc: str


@contextmanager
def emulator() -> Iterator[Emulator]:
    """Yield a running `bqemulator` without tables; its DuckDB takes its extension from the package beside it."""
    with service_folder("bigquery") as (folder, _):
        environment = {
            **os.environ,
            "HOME": str(folder),
            "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
            "OTEL_SDK_DISABLED": "true",
        }
        subprocess.run(
            [sys.executable, "-c", "from duckdb_extensions import import_extension; import_extension('spatial')"],
            check=True, capture_output=True, env=environment, cwd=folder,
        )  # fmt: skip
        rest, grpc = free_port(), free_port()
        command = [
            str(Path(sys.executable).parent / "bqemulator"), "start",
            "--rest-port", str(rest), "--grpc-port", str(grpc), "--log-level", "error",
        ]  # fmt: skip
        url = f"http://127.0.0.1:{rest}"
        ready = f"{url}/bigquery/v2/projects/{PROJECT}/datasets"
        with running(command, folder=folder, ready=lambda: answers(ready), environment=environment):
            yield Emulator(url, f"127.0.0.1:{grpc}")


@dataclass
class Failure:
    """An answer that is no success. `reason` is BigQuery's own; `body` replaces the documented error."""

    status: int
    reason: str = ""
    message: str = "as the test wants it"
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    disconnect: bool = False

    def encoded(self) -> bytes:
        if self.body is not None:
            return self.body.encode()
        errors = [{"reason": self.reason, "message": self.message, "domain": "global"}]
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": errors}}).encode()


@dataclass
class Stub:
    """A BigQuery whose every answer the test decides. Operations: estimate, insert, get, results, cancel, token.

    `fail` has the answers that an operation gives first, one a time; `held` operations wait for `released`.
    """

    url: str
    schema: list[dict[str, str]] = field(
        default_factory=lambda: [{"name": "account_id", "type": "STRING"}, {"name": "rate", "type": "FLOAT"}]
    )
    rows: list[list[str | None]] = field(default_factory=lambda: [["acc_001", "0.5"], ["acc_002", "0.25"]])
    page: int = 1000
    estimated: int = 3 * 1024**3
    statement: str = "SELECT"
    location: str = "EU"
    statistics: dict[str, Any] = field(
        default_factory=lambda: {
            "totalBytesProcessed": str(3 * 1024**3), "totalBytesBilled": str(3 * 1024**3 + 1024**2), "cacheHit": False,
        }
    )  # fmt: skip
    slot_milliseconds: int = 4500
    polls: int = 0
    error: dict[str, str] | None = None
    fail: dict[str, list[Failure]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)
    calls: list[str] = field(default_factory=list)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    queries: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def job(self, job_id: str, state: str = "DONE") -> dict[str, Any]:
        done, slots = state == "DONE", str(self.slot_milliseconds)
        status: dict[str, Any] = {"state": state}
        if done and self.error:
            status |= {"errorResult": self.error, "errors": [self.error]}
        destination = {"projectId": PROJECT, "datasetId": "_hidden", "tableId": "result"}
        asked = self.bodies.get("insert", {}).get("configuration", {})
        configuration = asked | {"query": asked.get("query", {}) | {"destinationTable": destination}}
        return {
            "kind": "bigquery#job",
            "id": job_id,
            "jobReference": {"projectId": PROJECT, "jobId": job_id, "location": self.location},
            "configuration": configuration,
            "status": status,
            "statistics": {"totalSlotMs": slots, "query": {"totalSlotMs": slots, **self.statistics}} if done else {},
        }

    def answer(self, operation: str, job_id: str, params: dict[str, str]) -> dict[str, Any]:
        if operation == "estimate":
            query = {
                "totalBytesProcessed": str(self.estimated),
                "statementType": self.statement,
                "schema": {"fields": self.schema},
            }
            reference = {"projectId": PROJECT, "location": self.location}
            configuration = {"dryRun": True, "query": {}}
            return {"jobReference": reference, "statistics": {"query": query}, "configuration": configuration,
                    "status": {"state": "DONE"}}  # fmt: skip
        if operation == "insert":
            return self.job(job_id, "RUNNING")
        if operation == "get":
            self.polls -= 1
            return self.job(job_id, "DONE" if self.polls < 0 else "RUNNING")
        if operation == "cancel":
            return {"kind": "bigquery#jobCancelResponse", "job": self.job(job_id)}
        if operation == "token":
            return {"access_token": "token-of-the-test", "expires_in": 3600, "token_type": "Bearer"}
        return self.results(job_id, params)

    def results(self, job_id: str, params: dict[str, str]) -> dict[str, Any]:
        start = int(params.get("pageToken") or params.get("startIndex") or 0)
        end = start + min(int(params.get("maxResults", self.page)), self.page)
        rows = [{"f": [{"v": value} for value in row]} for row in self.rows[start:end]]
        found = {
            "jobReference": {"projectId": PROJECT, "jobId": job_id, "location": self.location},
            "schema": {"fields": self.schema},
            "jobComplete": True,
            "totalRows": str(len(self.rows)),
        }
        more = {"pageToken": str(end)} if rows and end < len(self.rows) else {}
        return {**found, **({"rows": rows} if rows else {}), **more}


@dataclass
class Storage:
    """A Storage Read API that streams `batches` of 100 rows of the stub's columns; `failure` is a gRPC status' name."""

    address: str
    batches: int = 3
    failure: str = ""
    sent: int = 0
    held: threading.Event | None = None

    def session(self, _: Any, context: Any) -> Any:
        from google.cloud.bigquery_storage_v1 import types

        if self.failure:
            context.abort(getattr(grpc.StatusCode, self.failure), "as the test wants it")
        streams = [types.ReadStream(name="stream")]
        return types.ReadSession(name="session", arrow_schema=self.schema(), data_format="ARROW", streams=streams)

    def rows(self, *_: Any) -> Iterator[Any]:
        from google.cloud.bigquery_storage_v1 import types

        for number in range(self.batches):
            batch = self.batch(number)
            data = types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes())
            first = {} if number else {"arrow_schema": self.schema()}
            yield types.ReadRowsResponse(row_count=100, arrow_record_batch=data, **first)
            self.sent += 1
            if self.held is not None:
                self.held.wait()

    def schema(self) -> Any:
        from google.cloud.bigquery_storage_v1 import types

        return types.ArrowSchema(serialized_schema=self.batch(0).schema.serialize().to_pybytes())

    def batch(self, number: int) -> pa.RecordBatch:
        rows = [{"account_id": str(number * 100 + row), "rate": 0.5} for row in range(100)]
        return pa.RecordBatch.from_pylist(rows)


@contextmanager
def storage() -> Iterator[Storage]:
    from google.cloud.bigquery_storage_v1 import types

    server = grpc.server(ThreadPoolExecutor(4))
    state = Storage(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    handlers = {
        "CreateReadSession": grpc.unary_unary_rpc_method_handler(
            state.session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
        ),
        "ReadRows": grpc.unary_stream_rpc_method_handler(
            state.rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
        ),
    }
    service = "google.cloud.bigquery.storage.v1.BigQueryRead"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    server.start()
    try:
        yield state
    finally:
        if state.held is not None:
            state.held.set()
        server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.reply("results" if "/queries/" in path else "get", path.rpartition("/")[2])

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/token":
            self.reply("token", "")
        elif path.endswith("/cancel"):
            self.reply("cancel", path.split("/")[-2])
        else:
            body = json.loads(raw)
            operation = "estimate" if body["configuration"].get("dryRun") else "insert"
            self.stub.bodies[operation] = body
            self.reply(operation, body.get("jobReference", {}).get("jobId", ""))

    def reply(self, operation: str, job_id: str) -> None:
        stub, params = self.stub, dict(parse_qsl(urlsplit(self.path).query))
        stub.queries.append(params)
        stub.authorizations.append(self.headers.get("Authorization", ""))
        stub.calls.append(operation)
        if operation in stub.held:
            stub.released.wait()
        failure = stub.fail[operation].pop(0) if stub.fail.get(operation) else None
        if failure is None:
            self.send(200, json.dumps(stub.answer(operation, job_id, params)).encode(), {})
        elif failure.disconnect:
            self.close_connection = True
        else:
            kind = {"Content-Type": "text/html"} if failure.body is not None else {}
            self.send(failure.status, failure.encoded(), kind | failure.headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stub() -> Iterator[Stub]:
    state = Stub("")
    with served(type("Handler", (_Handler,), {"stub": state})) as url:
        state.url = url
        try:
            yield state
        finally:
            state.released.set()
