"""What `file`, `s3_file` and `gcs_file` share: find the file, skip it where it is unchanged, read it into columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import polars as pl

from exporter.collectors.base import Collection, Collector, Measure
from exporter.collectors.file_config import FileSourceConfig, Format
from exporter.collectors.file_content import decompressed
from exporter.collectors.file_json import json_frame, ndjson_frame
from exporter.collectors.file_paths import Stored, filled, fixed_prefix, is_glob, matching, newest_of
from exporter.collectors.file_tables import csv_frame, parquet_frame
from exporter.errors import BudgetExceeded, Unreachable

Reader = Callable[[bytes, str, FileSourceConfig, Collection], pl.DataFrame]
_READERS: Mapping[Format, Reader] = {
    "json": json_frame,
    "ndjson": ndjson_frame,
    "csv": csv_frame,
    "parquet": parquet_frame,
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file's content. `lasting` is whether its version is sure to change with the content from now on."""

    stored: Stored
    body: bytes
    lasting: bool = True


class Store(Protocol):
    """Where files are kept. All but `cancel` are called from the source's thread, and raise CollectErrors."""

    def connect(self, collection: Collection) -> None:
        """Be ready for a collection: read secrets and addresses anew."""

    def place(self, name: str) -> str:
        """A file in words, such as `s3://bucket/name`."""

    def listed(self, path: str, collection: Collection) -> Iterable[Stored]:
        """All files that start as the glob `path` does, or only those that it matches."""

    def fetched(self, name: str, collection: Collection) -> Fetched | None:
        """A file's content; None if its version is `collection.served`."""

    def cancel(self) -> None:
        """End what waits, from another thread."""

    def close(self) -> None:
        """Let go of connections."""


class FileSourceCollector(Collector):
    """Reads one file per collection, if it has changed."""

    def __init__(self, config: FileSourceConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._measures: tuple[Measure, ...] = ()

    def collect(self, collection: Collection) -> pl.DataFrame | None:
        config = self._config
        self._store.connect(collection)
        pattern = collection.secrets.expand(config.path_pattern)
        path = filled(pattern, collection.now, config.zone, config.offset)
        newest = self._newest(path, collection) if is_glob(path) else None
        if newest is not None and newest.version == collection.served:
            fetched = None
        else:
            fetched = self._store.fetched(newest.name if newest else path, collection)
        frame = None if fetched is None else self._read(fetched, collection)
        collection.measures += self._measures
        return frame

    def cancel(self) -> None:
        self._store.cancel()

    def close(self) -> None:
        self._store.close()

    def _newest(self, path: str, collection: Collection) -> Stored:
        most, place = self._config.max_listed, self._store.place(path)
        files = list(islice(self._store.listed(path, collection), most + 1))
        if len(files) > most:
            where = self._store.place(fixed_prefix(path))
            raise BudgetExceeded(f"there are more than max_listed ({most}) files at {where}: narrow path_pattern")
        found = list(matching(files, path))
        if not found:
            raise Unreachable(
                f"no file matches {place} yet ({len(files)} others start like it): is path_pattern right?"
            )
        return newest_of(found, self._config.newest_by)

    def _read(self, fetched: Fetched, collection: Collection) -> pl.DataFrame:
        config, place = self._config, self._store.place(fetched.stored.name)
        body = decompressed(fetched.body, config.max_bytes, place, collection)
        kind = config.kind
        assert kind is not None
        frame = _READERS[kind](body, place, config, collection)
        collection.version = fetched.stored.version if fetched.lasting else None
        self._measures = _measures(fetched)
        return frame


def _measures(fetched: Fetched) -> tuple[Measure, ...]:
    return (
        Measure(
            "file_modified_timestamp_seconds",
            "When the file that is served was last modified.",
            fetched.stored.modified,
        ),
        Measure("file_size_bytes", "Size of the file that is served, as it is stored.", len(fetched.body)),
    )


def missing(place: str) -> Unreachable:
    """A file that is not there, or not yet: it is looked for again."""
    return Unreachable(
        f"there is no file {place} yet: if it should be there, look at path_pattern, time_zone and offset"
    )


def changed(place: str) -> Unreachable:
    return Unreachable(f"{place} was changed while it was read: write to another name, and rename when it is complete")
