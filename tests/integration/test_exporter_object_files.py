"""s3_file and gcs_file over moto's S3 and the Cloud Storage emulator, and over servers that misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import servers_files
from botocore.config import Config
from exporter_parts import running
from file_sources import METRIC, ROWS, Source, csv, gzipped, parquet, source
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from servers import wait_for
from servers_http import Answer, Api, api_server

from exporter.collectors import gcs_objects, s3_objects

pytestmark = pytest.mark.xdist_group("object stores")  # whose servers are slow to start
KEYS = {"access_key_env": "S3_KEY", "secret_key_env": "S3_SECRET", "region": "eu-west-1"}
ENVIRON = {"S3_KEY": "AKIATESTKEY", "S3_SECRET": "secret-that-must-not-leak"}
NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
RATES = {row["account_id"]: str(row["rate"]) for row in ROWS}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with servers_files.s3() as url:
        yield url


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    with servers_files.cloud_storage() as url:
        yield url


@dataclass
class Bucket:
    """An empty bucket: how to put a file into it, and how to read it as a source."""

    kind: str
    scheme: str
    keys: dict[str, Any]
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]

    def reading(self, path: str, **keys: Any) -> Source:
        return source(self.kind, ENVIRON, path_pattern=path, **{**self.keys, **keys})


@pytest.fixture(params=["s3_file", "gcs_file"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    name = f"reports-{time.time_ns()}"
    if request.param == "s3_file":
        url = request.getfixturevalue("s3_server")
        client = s3_client(url)
        client.create_bucket(Bucket=name)
        yield Bucket(
            "s3_file",
            "s3",
            {"bucket": name, "endpoint_url": url, **KEYS},
            lambda key, body: client.put_object(Bucket=name, Key=key, Body=body),
            lambda key: client.delete_object(Bucket=name, Key=key),
        )
        client.close()
        return
    url = request.getfixturevalue("gcs_server")
    gcs = storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": url})
    made = gcs.create_bucket(name)
    yield Bucket(
        "gcs_file",
        "gs",
        {"bucket": name, "endpoint": url, "anonymous": True},
        lambda key, body: made.blob(key).upload_from_string(body),
        lambda key: made.blob(key).delete(),
    )
    gcs.close()


def s3_client(url: str, key: str = "setup", secret: str = "setup") -> Any:
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", json.dumps({"data": ROWS}).encode()),
        ("r.ndjson.gz", gzipped("\n".join(map(json.dumps, ROWS)))),
        ("r.csv.gz", gzipped(csv(ROWS))),
        ("r.parquet", parquet(ROWS)),
    ],
)
def test_every_format_from_a_bucket(bucket: Bucket, name: str, content: bytes) -> None:
    bucket.put(f"daily/2026-03-01/{name}", content)
    rates = bucket.reading(f"daily/{{date}}/{name}").rates(now=NOON)
    assert {account: float(rate) for account, rate in rates.items()} == {row["account_id"]: row["rate"] for row in ROWS}


def test_a_report_reaches_prometheus(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("report.csv", csv(ROWS))
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    document = {"name": "source", "type": bucket.kind, "path_pattern": "report.csv", "metrics": [METRIC], **bucket.keys}
    with running(f"- {json.dumps(document)}") as exporter:
        assert exporter.tried().values("sentinel_rate", "account_id") == {
            row["account_id"]: row["rate"] for row in ROWS
        }


def test_an_unchanged_object_is_not_downloaded_again(bucket: Bucket) -> None:
    began = int(time.time())
    bucket.put("r.csv", csv(ROWS))
    read = bucket.reading("r.csv")
    assert read.rates() == RATES
    assert read.collect() is None
    assert read.last is not None
    measures = {measure.name: measure.value for measure in read.last.measures}
    assert began <= measures["file_modified_timestamp_seconds"] <= time.time()
    assert measures["file_size_bytes"] == len(csv(ROWS))
    bucket.put("r.csv", csv(ROWS[:2]))
    assert len(read.rates()) == 2
    read.served = None  # what was served became too old
    assert len(read.rates()) == 2


def test_the_newest_object_that_matches(bucket: Bucket) -> None:
    for number, name in enumerate(["in/r-3.csv", "in/r-1.csv", "in/.r-2.csv", "in/deep/r-4.csv", "in/r-5.txt"], 1):
        if number == 2:  # S3 tells whole seconds
            first = int(time.time())
            wait_for(lambda: int(time.time()) > first, what="the next second")  # noqa: B023 - called within the loop
        bucket.put(name, csv(ROWS[:number]))
    latest = bucket.reading("in/r-*.csv")
    assert len(latest.rates()) == 2
    assert latest.collect() is None
    assert len(bucket.reading("in/r-*.csv", newest_by="name").rates()) == 1
    assert len(bucket.reading("in/*/r-*.csv").rates()) == 4
    bucket.delete("in/r-1.csv")
    assert len(latest.rates()) == 1
    reason, message = bucket.reading("in/*.csv", max_listed=2).error()
    assert (reason, "more than max_listed (2) files" in message) == ("budget", True)


def test_a_file_that_is_not_there_yet(bucket: Bucket) -> None:
    read = bucket.reading("daily/{date}/r.csv")
    error = read.failure(now=NOON)
    assert (error.reason, error.retryable) == ("unreachable", True)
    name = bucket.keys["bucket"]
    assert f"there is no file {bucket.scheme}://{name}/daily/2026-03-01/r.csv yet" in str(error)
    assert "no file matches" in bucket.reading("daily/*.csv").error()[1]
    bucket.put("daily/2026-03-01/r.csv", csv(ROWS))
    assert read.rates(now=NOON) == RATES


@pytest.mark.parametrize("path", ["r.csv", "r-*.csv", "*.csv"])
@pytest.mark.parametrize("name", ["there-is-no-such-bucket", "No Bucket!"])
def test_a_bucket_that_is_not_there(bucket: Bucket, name: str, path: str) -> None:
    error = bucket.reading(path, bucket=name).failure()
    assert (error.reason, error.retryable) == ("bad_answer", False)
    assert "is bucket" in str(error)


def test_what_is_larger_than_max_bytes_is_not_downloaded(bucket: Bucket) -> None:
    bucket.put("r.csv", csv(ROWS) + b" " * 2_000_000)
    assert bucket.reading("r.csv", max_bytes=1_000_000).error()[0] == "budget"
    bucket.put("r.csv", gzipped(b" " * 2_000_000))
    reason, message = bucket.reading("r.csv", max_bytes=1_000_000).error()
    assert (reason, "decompressed, is larger than max_bytes" in message) == ("budget", True)


def test_a_truncated_object_is_said(bucket: Bucket) -> None:
    bucket.put("r.csv.gz", gzipped(csv(ROWS * 100))[:-30])
    assert "ends too early" in bucket.reading("r.csv.gz").error()[1]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's library gives up trying again at once."""
    monkeypatch.setattr(gcs_objects, "_LONGEST_RETRYING", 0.01)


@pytest.mark.usefixtures("hurried")
def test_nobody_listens(bucket: Bucket, free_port: Callable[[], int]) -> None:
    key = "endpoint_url" if bucket.kind == "s3_file" else "endpoint"
    reason, message = bucket.reading("r.csv", **{key: f"http://127.0.0.1:{free_port()}"}).error()
    assert reason == "unreachable", message
    assert "onnect" in message


@pytest.mark.usefixtures("own_session")
def test_keys_that_are_refused_stop_the_source_until_they_change(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setup = s3_client(s3_server)
    setup.create_bucket(Bucket="guarded")
    setup.put_object(Bucket="guarded", Key="r.csv", Body=csv(ROWS))
    iam = boto3.client("iam", endpoint_url=s3_server, region_name="us-east-1", aws_access_key_id="setup",
                       aws_secret_access_key="setup")  # fmt: skip
    iam.create_user(UserName="exporter")
    key = iam.create_access_key(UserName="exporter")["AccessKey"]
    keys = {**KEYS, "bucket": "guarded", "endpoint_url": s3_server}
    read = source("s3_file", dict(ENVIRON), path_pattern="r.csv", **keys)
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=60)
    try:
        error = read.failure()
        assert (error.reason, error.stops) == ("denied", True)
        assert "the keys from S3_SECRET were refused" in str(error)
        read.environ = {"S3_KEY": key["AccessKeyId"], "S3_SECRET": key["SecretAccessKey"]}
        error = read.failure()
        assert (error.reason, error.stops) == ("denied", False)
        assert "allow s3:GetObject, and s3:ListBucket" in str(error)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=60)
        iam.put_user_policy(UserName="exporter", PolicyName="read", PolicyDocument=json.dumps(policy))
        requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=60)
        assert read.rates() == RATES
        chain = source("s3_file", path_pattern="r.csv", bucket="guarded", endpoint_url=s3_server)
        shared_credentials(monkeypatch, tmp_path, "AKIAOLD", "old")
        error = chain.failure()
        assert (error.reason, error.stops) == ("denied", False)  # a role is renewed by itself
        assert "the credentials of the exporter's environment were refused" in str(error)
        shared_credentials(monkeypatch, tmp_path, key["AccessKeyId"], key["SecretAccessKey"])
        assert chain.rates() == RATES
    finally:
        requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=60)


def shared_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path, key: str, secret: str) -> None:
    """Let AWS clients find these keys, and no others."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    if key:
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        (folder / "credentials").write_text(text)


@pytest.fixture
def own_session() -> Iterator[None]:
    """What the test's environment says is nothing to the others."""
    s3_objects._session.cache_clear()
    yield
    s3_objects._session.cache_clear()


@pytest.mark.usefixtures("own_session")
def test_no_credentials_at_all_are_said(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared_credentials(monkeypatch, tmp_path, "", "")
    read = source("s3_file", path_pattern="r.csv", bucket="chain", endpoint_url=s3_server)
    reason, message = read.error()
    assert (reason, "no credentials found: set access_key_env" in message) == ("denied", True)
    setup = s3_client(s3_server)
    setup.create_bucket(Bucket="chain")
    setup.put_object(Bucket="chain", Key="r.csv", Body=csv(ROWS))
    shared_credentials(monkeypatch, tmp_path, "any", "any")
    assert read.rates() == RATES  # found without a restart


def test_an_anonymous_source_signs_nothing(s3_server: str) -> None:
    setup = s3_client(s3_server)
    setup.create_bucket(Bucket="public")
    setup.put_object(Bucket="public", Key="r.csv", Body=csv(ROWS), ACL="public-read")
    public = source("s3_file", path_pattern="r.csv", bucket="public", endpoint_url=s3_server, anonymous=True)
    assert public.rates() == RATES


@pytest.fixture
def odd_server() -> Iterator[Api]:
    with api_server() as server:
        yield server


def odd(kind: str, server: Api, **keys: Any) -> Source:
    """A source whose server is not what it should be."""
    if kind == "s3_file":
        return source(kind, ENVIRON, path_pattern="r.csv", bucket="odd", endpoint_url=server.url, **KEYS, **keys)
    return source(kind, path_pattern="r.csv", bucket="odd", endpoint=server.url, anonymous=True, **keys)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["s3_file", "gcs_file"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(401, body={"error": {"message": "Invalid Credentials"}}), "denied"),
        (Answer(403, body={"error": {"message": "no storage.objects.get access"}}), "denied"),
        (Answer(429, body="<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>"), "rate_limited"),
        (Answer(500, body="oops"), "server_error"),
        (Answer(503, body=""), "server_error"),
        (Answer(400, body="<html>proxy</html>"), "bad_answer"),
    ],
)
def test_what_a_server_answers_instead(odd_server: Api, kind: str, answer: Answer, reason: str) -> None:
    odd_server.answer = lambda _: answer
    said, message = odd(kind, odd_server).error()
    assert said == reason, message
    assert ENVIRON["S3_SECRET"] not in message


@pytest.mark.parametrize("kind", ["s3_file", "gcs_file"])
@pytest.mark.parametrize("how", ["silent", "drip", "drip_headers"])
def test_a_server_that_hangs_ends_at_once_when_cancelled(odd_server: Api, kind: str, how: str) -> None:
    odd_server.answer = lambda _: Answer(
        body=b"x" * 10_000,
        held=threading.Event() if how == "silent" else None,
        drip=how == "drip",
        drip_headers=how == "drip_headers",
        headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"},
    )
    error = odd(kind, odd_server, timeout="1h").cancelled_once(lambda: odd_server.requests)
    assert error.reason == "timeout", str(error)


@pytest.mark.parametrize("kind", ["s3_file", "gcs_file"])
def test_a_silent_server_is_given_up_at_the_timeout(odd_server: Api, kind: str) -> None:
    odd_server.answer = lambda _: Answer(held=threading.Event())
    reason, message = odd(kind, odd_server, timeout="500ms").error(timeout=0.5)
    assert reason == "timeout", message


def test_an_answer_that_ends_early_is_no_report(odd_server: Api) -> None:
    headers = {"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT", "Content-Length": "500"}
    odd_server.answer = lambda _: Answer(body="account_id,rate\n", headers={**headers, "Connection": "close"})
    assert odd("s3_file", odd_server).error()[0] == "unreachable"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"type": "service_account"}', "no JSON"])
def test_a_key_file_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    key = tmp_path / "key.json"
    read = source("gcs_file", path_pattern="r.csv", bucket="b", credentials_file=str(key))
    assert read.error()[0] == "secret"
    key.write_text(text)
    reason, message = read.error()
    assert (reason, f"credentials_file {key}" in message) == ("secret", True)


def test_no_default_credentials_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    reason, message = source("gcs_file", path_pattern="r.csv", bucket="b").error()
    assert (reason, "set credentials_file" in message) == ("denied", True)


def test_a_service_account_s_key_is_exchanged_for_a_token(odd_server: Api, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = tmp_path / "key.json"
    key.write_text(json.dumps({
        "type": "service_account", "client_email": "exporter@test", "token_uri": f"{odd_server.url}/token",
        "private_key": private.decode(), "project_id": "p",
    }))  # fmt: skip
    odd_server.answer = lambda seen: Answer(501 if seen.path == "/token" else 200)
    read = source("gcs_file", path_pattern="r.csv", bucket="b", endpoint=odd_server.url, credentials_file=str(key))
    error = read.failure()
    assert [seen.path for seen in odd_server.requests] == ["/token"]
    assert error.reason == "denied", str(error)
    assert "PRIVATE KEY" not in str(error)
