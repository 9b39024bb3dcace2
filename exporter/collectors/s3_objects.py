"""Objects in an S3 bucket, through boto3: cancellable, conditional on their ETag, and errors in plain words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3  # type: ignore[import-untyped]  # has no types
import botocore  # type: ignore[import-untyped]  # has no types
import botocore.exceptions as faults  # type: ignore[import-untyped]  # has no types
from botocore.config import Config  # type: ignore[import-untyped]  # has no types
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # has no types

from exporter.collectors.base import Collection
from exporter.collectors.bucket_objects import LONGEST_CONNECT, BucketObjects
from exporter.collectors.file_content import CHUNK, gathered, within_max_bytes
from exporter.collectors.file_paths import Stored, fixed_prefix, one_folder
from exporter.collectors.file_source import Fetched
from exporter.collectors.reachable_http import noted
from exporter.collectors.s3_errors import client_failure, service_failure
from exporter.collectors.s3_file import S3FileConfig
from exporter.collectors.waited_socket import WaitedSocket
from exporter.errors import Denied

_ATTEMPTS = 2  # of botocore itself, a second apart at most; the schedule tries again beyond that
_NOT_MODIFIED = "304"
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Access:
    """What a client is made from."""

    endpoint: str | None
    region: str | None
    key: str | None
    secret: str | None
    token: str | None


class S3Objects(BucketObjects[S3FileConfig, _Access]):
    """One bucket of S3."""

    scheme = "s3"

    def listed(self, path: str, collection: Collection) -> Iterator[Stored]:
        asked = {"Bucket": self._bucket, "Prefix": fixed_prefix(path)}
        if one_folder(path):
            asked["Delimiter"] = "/"
        with self._failures(fixed_prefix(path), collection):
            for page in self._client.get_paginator("list_objects_v2").paginate(**asked):
                collection.remaining()
                for found in page.get("Contents", ()):
                    yield self._stored(found["Key"], found["ETag"], found["LastModified"])

    def fetched(self, name: str, collection: Collection) -> Fetched | None:
        asked = {"Bucket": self._bucket, "Key": name}
        if etag := self._etag(name, collection.served):
            asked["IfNoneMatch"] = etag
        place, most = self.place(name), self._config.max_bytes
        with self._failures(name, collection):
            try:
                answer = self._client.get_object(**asked)
            except faults.ClientError as error:
                if error.response["Error"].get("Code") == _NOT_MODIFIED:
                    return None
                raise
            with closing(answer["Body"]) as body:
                within_max_bytes(answer["ContentLength"], most, place)
                content = gathered(body.iter_chunks(CHUNK), most, place, collection)
        return Fetched(self._stored(name, answer["ETag"], answer["LastModified"]), content)

    def _read_access(self, collection: Collection) -> _Access:
        config, secrets = self._config, collection.secrets
        return _Access(
            endpoint=secrets.expand(config.endpoint_url) if config.endpoint_url else None,
            region=secrets.expand(config.region) if config.region else None,
            key=secrets.secret(env=config.access_key_env, file=config.access_key_file),
            secret=secrets.secret(env=config.secret_key_env, file=config.secret_key_file),
            token=secrets.secret(env=config.session_token_env, file=config.session_token_file),
        )

    def _made(self, access: _Access) -> Any:  # noqa: ANN401 - boto3 has no types
        return _client(access, self._config, self._waited)

    def _etag(self, name: str, version: object) -> str | None:
        """The ETag in the version of this object, None in that of another one."""
        start = f"{self.place(name)}#"
        return version.removeprefix(start) if isinstance(version, str) and version.startswith(start) else None

    @contextmanager
    def _failures(self, name: str, collection: Collection) -> Iterator[None]:
        try:
            yield
        except faults.ClientError as error:
            failure = service_failure(error, self.place(name), self._config)
        except (faults.BotoCoreError, ResponseParserError, ValueError) as error:
            collection.remaining()
            failure = client_failure(error, self.place(name))
        else:
            return
        if isinstance(failure, Denied) and not self._config.own_keys:
            self.close()
            _session.cache_clear()  # credentials that were found elsewhere are looked for anew
        raise failure from None


@cache
def _session() -> Any:  # noqa: ANN401 - boto3 has no types
    """One for all sources: each would hold the description of the service, 12 MB of it."""
    return boto3.session.Session()


def _client(access: _Access, config: S3FileConfig, waited: WaitedSocket) -> Any:  # noqa: ANN401 - boto3 has no types
    options: dict[str, Any] = {
        "connect_timeout": min(LONGEST_CONNECT, config.run_timeout),
        "read_timeout": config.run_timeout,
        "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        "max_pool_connections": 1,
        "user_agent_extra": "sentinel-exporter",
    }
    if config.anonymous:
        options["signature_version"] = botocore.UNSIGNED
    if access.endpoint:
        options["s3"] = {"addressing_style": "path"}  # such servers rarely have a name for each bucket
    with _lock:  # making clients is not thread-safe, using them is
        client = _session().client(
            "s3",
            region_name=access.region or ("us-east-1" if access.endpoint else None),
            endpoint_url=access.endpoint,
            aws_access_key_id=access.key,
            aws_secret_access_key=access.secret,
            aws_session_token=access.token,
            config=Config(**options),
        )
    pools = client._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - no other way to reach the sockets
    for scheme, pool in pools.items():
        pools[scheme] = type("NotedPool", (pool,), {"ConnectionCls": noted(pool.ConnectionCls, waited.note)})
    return client
