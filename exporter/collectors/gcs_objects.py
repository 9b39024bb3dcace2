"""Objects in a Google Cloud Storage bucket: cancellable, pinned to their generation, and errors in plain words."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import google.auth
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import Client  # type: ignore[import-untyped]  # has no types
from google.cloud.storage.exceptions import DataCorruption  # type: ignore[import-untyped]  # has no types
from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]  # has no types
from google.oauth2 import service_account

from exporter.collectors.base import Collection
from exporter.collectors.bucket_objects import LONGEST_CONNECT, BucketObjects
from exporter.collectors.file_content import within_max_bytes
from exporter.collectors.file_paths import Stored, fixed_prefix, one_folder
from exporter.collectors.file_source import Fetched
from exporter.collectors.gcs_errors import failure_of
from exporter.collectors.gcs_file import GcsFileConfig
from exporter.collectors.reachable_http import ReachableAdapter
from exporter.collectors.waited_socket import WaitedSocket
from exporter.errors import BadAnswer, CollectError, Denied, SecretMissing

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
_LONGEST_RETRYING = 5.0  # seconds within one collection; the schedule tries again beyond that
_FAULTS = (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, DataCorruption)
_FIELDS = "items(name,generation,updated),nextPageToken"


@dataclass(frozen=True, slots=True)
class _Access:
    """What a client is made from; `key` is the text of a service account's key file."""

    endpoint: str | None
    key: str | None


class GcsObjects(BucketObjects[GcsFileConfig, _Access]):
    """One bucket of Google's."""

    scheme = "gs"

    def listed(self, path: str, collection: Collection) -> Iterator[Stored]:
        prefix = fixed_prefix(path)
        with self._failures(prefix, collection):
            for blob in self._client.list_blobs(
                self._bucket,
                prefix=prefix,
                delimiter="/" if one_folder(path) else None,
                fields=_FIELDS,
                **_patience(collection),
            ):
                collection.remaining()
                yield self._of(blob)

    def fetched(self, name: str, collection: Collection) -> Fetched | None:
        place, most = self.place(name), self._config.max_bytes
        with self._failures(name, collection):
            blob = self._client.bucket(self._bucket).blob(name)
            blob.reload(**_patience(collection))
            stored = self._of(blob)
            if stored.version == collection.served:
                return None
            within_max_bytes(blob.size or 0, most, place)
            body = _Body(most, place, collection)
            # As it is stored: what is compressed is decompressed here, where its size is watched.
            blob.download_to_file(body, raw_download=True, if_generation_match=blob.generation, **_patience(collection))
        return Fetched(stored, body.getvalue())

    def _read_access(self, collection: Collection) -> _Access:
        config, secrets = self._config, collection.secrets
        return _Access(
            endpoint=secrets.expand(config.endpoint) if config.endpoint else None,
            key=secrets.secret(file=config.credentials_file),
        )

    def _made(self, access: _Access) -> Any:  # noqa: ANN401 - the library has no types
        return _client(access, self._config, self._waited)

    def _of(self, blob: Any) -> Stored:  # noqa: ANN401 - the library has no types
        return self._stored(blob.name, blob.generation, blob.updated)

    @contextmanager
    def _failures(self, name: str, collection: Collection) -> Iterator[None]:
        try:
            yield
        except CollectError:
            raise
        except (*_FAULTS, ValueError) as error:
            collection.remaining()
            failure = failure_of(error, self.place(name), self._config)
            if isinstance(error, api.NotFound):
                failure = self._missing(failure, collection)
        else:
            return
        if isinstance(failure, Denied):
            self.close()  # credentials are looked for anew
        raise failure from None

    def _missing(self, failure: CollectError, collection: Collection) -> CollectError:
        """Whether it is the bucket that is missing; listing it tells, where that is allowed."""
        try:
            list(self._client.list_blobs(self._bucket, max_results=1, fields=_FIELDS, **_patience(collection)))
        except api.NotFound:
            return BadAnswer(f"there is no bucket {self._bucket}: is bucket right?")
        except _FAULTS:
            return failure
        return failure


class _Body(io.BytesIO):
    """A download, given up when it becomes too large or the time is over."""

    def __init__(self, most: int, place: str, collection: Collection) -> None:
        super().__init__()
        self._most, self._place, self._collection = most, place, collection

    def write(self, chunk: Any, /) -> int:  # noqa: ANN401 - whatever has bytes, as the base class takes it
        self._collection.remaining()
        within_max_bytes(self.tell() + len(chunk), self._most, self._place)
        return super().write(chunk)


def _patience(collection: Collection) -> dict[str, Any]:
    """How long to wait for an answer, and to try again."""
    left = collection.remaining()
    retry = DEFAULT_RETRY.with_delay(initial=0.5, maximum=1.0).with_timeout(min(_LONGEST_RETRYING, left / 2))
    return {"timeout": (min(LONGEST_CONNECT, left), left), "retry": retry}


def _client(access: _Access, config: GcsFileConfig, waited: WaitedSocket) -> Any:  # noqa: ANN401 - the library has no types
    plain = requests.Session()
    _reachable(plain, waited)
    asking = Request(plain)
    credentials = _credentials(access, config, asking)
    longest = int(config.run_timeout) + 1
    session = AuthorizedSession(  # type: ignore[no-untyped-call]  # has no types
        credentials, auth_request=asking, refresh_timeout=longest
    )
    _reachable(session, waited)
    return Client(
        project="none",  # reading needs no project
        credentials=credentials,
        client_options={"api_endpoint": access.endpoint} if access.endpoint else None,
        use_auth_w_custom_endpoint=not config.anonymous,
        _http=session,
    )


def _reachable(session: requests.Session, waited: WaitedSocket) -> None:
    for scheme in ("https://", "http://"):
        session.mount(scheme, ReachableAdapter(waited.note))


def _credentials(access: _Access, config: GcsFileConfig, asking: Request) -> Any:  # noqa: ANN401 - of several kinds
    if config.anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # has no types
    if access.key is None:
        return google.auth.default(scopes=_SCOPES, request=asking)[0]
    try:
        key = json.loads(access.key)
        read = service_account.Credentials.from_service_account_info
        return read(key, scopes=_SCOPES)  # type: ignore[no-untyped-call]  # has no types
    except (ValueError, TypeError, AttributeError) as error:
        what = f"credentials_file {config.credentials_file} is no key file of a service account"
        raise SecretMissing(f"{what} ({type(error).__name__}): create one, or use the default credentials") from None
