"""What objects in a bucket have in common, whoever keeps it: when the client is made, how an object is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, TypeVar

from exporter.collectors.base import Collection
from exporter.collectors.file_config import BucketConfig
from exporter.collectors.file_paths import Stored
from exporter.collectors.file_source import Fetched
from exporter.collectors.waited_socket import WaitedSocket

LONGEST_CONNECT = 10.0
LONGEST_WORDS = 200
Config = TypeVar("Config", bound=BucketConfig)
Access = TypeVar("Access")


class BucketObjects(ABC, Generic[Config, Access]):
    """One bucket. The client is made anew when what it is made from, secrets and addresses, has changed."""

    scheme: ClassVar[str]

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bucket = ""
        self._access: Access | None = None
        self._client: Any = None
        self._waited = WaitedSocket()

    def connect(self, collection: Collection) -> None:
        self._bucket = collection.secrets.expand(self._config.bucket)
        access = self._read_access(collection)
        self._waited.collection = collection
        if self._client is None or access != self._access:
            self.close()
            with self._failures("", collection):
                self._client = self._made(access)
            self._access = access

    def place(self, name: str) -> str:
        return f"{self.scheme}://{self._bucket}/{name}"

    @abstractmethod
    def listed(self, path: str, collection: Collection) -> Iterator[Stored]: ...

    @abstractmethod
    def fetched(self, name: str, collection: Collection) -> Fetched | None: ...

    def cancel(self) -> None:
        self._waited.cancel()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _stored(self, name: str, version: object, modified: Any) -> Stored:  # noqa: ANN401 - the libraries have no types
        return Stored(name, f"{self.place(name)}#{version}", modified.timestamp())

    @abstractmethod
    def _read_access(self, collection: Collection) -> Access:
        """What a client is made from, read anew."""

    @abstractmethod
    def _made(self, access: Access) -> Any:  # noqa: ANN401 - the libraries have no types
        """A client."""

    @abstractmethod
    def _failures(self, name: str, collection: Collection) -> AbstractContextManager[None]:
        """Errors of the client as what they mean here; what was cancelled is a timeout, whatever the client says."""


def words(error: Exception) -> str:
    """A client's message on one line, cut."""
    return " ".join(str(error).split())[:LONGEST_WORDS]
