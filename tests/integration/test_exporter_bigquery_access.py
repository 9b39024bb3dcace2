"""The bigquery source's credentials, and its rows over the Storage Read API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import servers_bigquery
from bigquery_parts import at_once, collection, key, make, private_key, refused, stub
from servers import wait_for
from servers_bigquery import Failure, Storage, Stub

from exporter.collectors import registry
from exporter.collectors.base import Collector
from exporter.errors import CollectError, Unsupported

__all__ = ["at_once", "key", "make", "private_key", "stub"]  # fixtures
pytestmark = [
    pytest.mark.usefixtures("at_once"),
    # google-cloud-bigquery warns of a change inside google-cloud-bigquery-storage that it calls itself
    pytest.mark.filterwarnings("ignore:Retrieving Arrow record batches:PendingDeprecationWarning"),
]


def test_a_service_account_is_used_until_its_key_changes(
    stub: Stub, make: Callable[..., Collector], key: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key))
    collector = make(stub, credentials=f"credentials_file: {file}")
    for _ in range(2):
        collector.collect(collection())
    assert stub.calls.count("token") == 1
    assert set(stub.authorizations) == {"", "Bearer token-of-the-test"}
    file.write_text(json.dumps(key | {"private_key_id": "rotated"}))
    collector.collect(collection())
    assert stub.calls.count("token") == 2


def test_refused_credentials_stop_the_source_and_are_not_shown(
    stub: Stub, make: Callable[..., Collector], key: dict[str, str]
) -> None:
    said = json.dumps({"error": "invalid_grant", "error_description": f"Invalid JWT, key {key['private_key_id']}"})
    stub.fail["token"] = [Failure(400, body=said)] * 3
    run = collection(KEY=json.dumps(key))
    collector = make(stub, credentials="credentials_env: KEY")
    error = refused(collector, run)
    assert (error.reason, error.stops) == ("denied", True)
    shown = run.secrets.redact(str(error))
    assert "invalid_grant" in shown
    assert key["private_key_id"] not in shown
    stub.fail.clear()
    assert collector.collect(collection(KEY=json.dumps(key))) is not None


def test_a_server_of_tokens_that_fails_is_no_refusal(
    stub: Stub, make: Callable[..., Collector], key: dict[str, str]
) -> None:
    stub.fail["token"] = [Failure(503, body='{"error": "unavailable"}')] * 99
    collector = make(stub, credentials="credentials_env: KEY")
    error = refused(collector, collection(KEY=json.dumps(key)))
    assert (error.reason, error.stops) == ("server_error", False)
    assert "gives tokens answered 503" in str(error)
    assert stub.calls.count("token") == 4, "tried again by the exporter, which knows the deadline, not by the library"
    stub.fail["token"] = [Failure(0, disconnect=True)]
    assert collector.collect(collection(KEY=json.dumps(key))) is not None


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"type": "authorized_user", "refresh_token": "abc-secret"}']
)
def test_what_is_no_key_is_named_and_not_shown(stub: Stub, make: Callable[..., Collector], text: str) -> None:
    error = refused(make(stub, credentials="credentials_env: KEY"), collection(KEY=text))
    assert error.reason == "secret"
    assert "KEY holds no service account key" in str(error)
    assert "abc-secret" not in str(error)
    assert refused(make(stub, credentials="credentials_env: KEY"), collection()).reason == "secret"


def test_application_default_credentials(
    stub: Stub, make: Callable[..., Collector], key: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "default.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    collector = make(stub, credentials="credentials: default")
    error = refused(collector, collection())
    assert error.reason == "secret"
    assert re.search("set credentials_file or credentials_env.*default.json was not found", str(error))
    file.write_text(json.dumps(key))
    assert collector.collect(collection()) is not None
    assert "Bearer token-of-the-test" in stub.authorizations
    stub.fail["estimate"] = [Failure(401, "authError", "Invalid Credentials")] * 3
    assert refused(collector, collection()).stops
    file.unlink()
    assert refused(collector, collection()).reason == "secret"  # what was refused is not used again


@pytest.fixture
def storage(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The Storage API's server, which every source with `storage_api` asks, and as many rows as it has."""
    import grpc
    from google.cloud.bigquery_storage import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    from exporter.collectors import bigquery_session

    stub.rows = [[str(number), "0.5"] for number in range(300)]
    with servers_bigquery.storage() as found:

        def client(_: Any) -> BigQueryReadClient:
            return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(found.address)))

        monkeypatch.setattr(bigquery_session, "storage_client", client)
        yield found


@pytest.fixture
def streaming(stub: Stub, make: Callable[..., Collector]) -> Iterator[Callable[..., Collector]]:
    """A collector with `storage_api`, which a configuration allows for Google's own endpoint only."""
    made: list[Collector] = []

    def collector(**changes: Any) -> Collector:
        config = make(stub)._config  # type: ignore[attr-defined]
        made.append(registry.collector(config.model_copy(update={"storage_api": True, **changes})))
        return made[-1]

    yield collector
    for each in made:
        each.close()


def test_rows_are_streamed_over_the_storage_api(
    stub: Stub, storage: Storage, streaming: Callable[..., Collector]
) -> None:
    collector = streaming()
    frame = collector.collect(collection())
    assert isinstance(frame, pl.DataFrame)
    assert frame["account_id"].to_list() == [str(number) for number in range(300)]
    assert not any("startIndex" in query for query in stub.queries)
    frame = streaming(max_rows=150, over_budget="truncate").collect(collection())
    assert isinstance(frame, pl.DataFrame)
    assert len(frame) == 150
    assert streaming(max_rows=300).collect(collection()) is not None
    assert refused(streaming(max_rows=299), collection()).reason == "budget"


def test_who_may_not_stream_is_told(storage: Storage, streaming: Callable[..., Collector]) -> None:
    storage.failure = "PERMISSION_DENIED"
    assert refused(streaming(), collection()).reason == "denied"


def test_a_stream_that_hangs_ends_with_the_deadline(storage: Storage, streaming: Callable[..., Collector]) -> None:
    storage.held = threading.Event()
    assert refused(streaming(), collection(seconds=1)).reason == "timeout"


def test_cancel_ends_a_stream_that_hangs(storage: Storage, streaming: Callable[..., Collector]) -> None:
    storage.held = threading.Event()
    collector, run = streaming(), collection(seconds=3600)
    errors: list[CollectError] = []
    thread = threading.Thread(target=lambda: errors.append(refused(collector, run)))
    thread.start()
    wait_for(lambda: storage.sent, what="the stream that hangs", timeout=60)
    run.cancelled.set()
    collector.cancel()
    thread.join()
    assert [error.reason for error in errors] == ["timeout"]
    storage.held.set()
    assert collector.collect(collection()) is not None


def test_the_storage_api_without_its_library_is_unsupported(
    streaming: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(Unsupported, match="pip install google-cloud-bigquery-storage"):
        streaming()
