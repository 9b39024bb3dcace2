"""`type: file`: a file of rows on a disk that the exporter can see."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from exporter.collectors.base import Collection
from exporter.collectors.file_config import FileSourceConfig
from exporter.collectors.file_content import CHUNK, gathered, within_max_bytes
from exporter.collectors.file_paths import Stored, fixed_prefix
from exporter.collectors.file_source import Fetched, FileSourceCollector, changed, missing
from exporter.errors import BadAnswer, CollectError, Denied, Unreachable

_COARSEST_CLOCK = 2.0  # seconds: some file systems know no finer times of modification
_NAME_A_FILE = "path_pattern must name a regular file"
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class FileConfig(FileSourceConfig):
    """A local file; it is read when it has changed."""

    type: Literal["file"] = Field(description="`file`.")


class FileCollector(FileSourceCollector):
    """Reads a local file."""

    def __init__(self, config: FileConfig) -> None:
        super().__init__(config, LocalFiles(config.max_bytes))


class LocalFiles:
    """The machine's own files. Only regular ones are read: a FIFO or a device would be waited for without end."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def connect(self, collection: Collection) -> None:
        pass

    def place(self, name: str) -> str:
        return name

    def listed(self, path: str, collection: Collection) -> Iterator[Stored]:
        empty = True
        for name in glob.iglob(path):  # noqa: PTH207 - Path.glob takes no absolute pattern
            collection.remaining()
            try:
                status = Path(name).stat()
            except OSError:  # gone meanwhile, or a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode):
                empty = False
                yield _stored(name, status)
        if empty:
            _check_folder(path)

    def fetched(self, name: str, collection: Collection) -> Fetched | None:
        try:
            # Without waiting, for a FIFO would keep us until somebody writes to it.
            with open(name, "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
                before = os.fstat(file.fileno())
                _check_kind(name, before)
                stored = _stored(name, before)
                if stored.version == collection.served:
                    return None
                within_max_bytes(before.st_size, self._max_bytes, name)
                body = gathered(iter(partial(file.read, CHUNK), b""), self._max_bytes, name, collection)
                if _stored(name, os.fstat(file.fileno())) != stored:
                    raise changed(name)
        except OSError as error:
            raise _failure(name, error) from None
        # A change in the same tick of the file system's clock would leave the version as it is.
        return Fetched(stored, body, lasting=collection.now.timestamp() - stored.modified > _COARSEST_CLOCK)

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


def _stored(name: str, status: os.stat_result) -> Stored:
    marks = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return Stored(name, f"{name}#{'.'.join(map(str, marks))}", status.st_mtime)


def _check_kind(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise BadAnswer(f"{name} is {kind}: {_NAME_A_FILE}")


def _check_folder(path: str) -> None:
    """Say why a glob finds nothing, where its folder is the reason."""
    folder = Path(fixed_prefix(path) + "*").parent
    if not folder.is_dir():
        raise missing(str(folder))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise Denied(f"the folder {folder} cannot be read: give the exporter's user the permission")


def _failure(name: str, error: OSError) -> CollectError:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return missing(name)
        case IsADirectoryError():
            return BadAnswer(f"{name} is a folder: {_NAME_A_FILE}")
        case PermissionError():
            return Denied(f"{name} cannot be read: give the exporter's user the permission")
        case _:
            return Unreachable(f"{name} cannot be read: {error.strerror or type(error).__name__}")
