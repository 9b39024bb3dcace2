"""The folder of snapshots: read at the start, written behind the sources' backs."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from time import monotonic

import structlog

from exporter.collectors.base import SourceConfig
from exporter.fingerprint import of_source
from exporter.snapshot import NoSnapshot, Snapshot, decode, encode

_SUFFIX = ".snapshot"
_UNFINISHED_FOR = 3600.0  # seconds after which nobody writes a file any more
log = structlog.get_logger()


class WarmStart:
    """One thread writes the newest snapshot of each source; one that is replaced before its turn is not written.

    Two replicas, or all shards, of one configuration may share a folder; exporters with different ones may not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._waiting: dict[str, Snapshot | None] = {}
        self._writing = False
        self._closed = False
        self._failing = False
        self.failures = 0
        self._thread = threading.Thread(target=self._write_all, name="snapshots", daemon=True)

    def load(self, sources: Iterable[SourceConfig], known: Collection[str], now: float) -> dict[str, Snapshot]:
        """Snapshots that can be served, by source. Those of sources that are not `known` are removed from the folder.

        `now` is in Unix seconds. What cannot be used is told in the log, and is no failure.
        """
        found: dict[str, Snapshot] = {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = {file.name.removesuffix(_SUFFIX): file for file in self._folder.glob(f"*{_SUFFIX}")}
            self._remove_unfinished(now)
        except OSError as error:
            log.warning("no warm start", folder=str(self._folder), error=error.strerror)
            return found
        for source in sources:
            if source.name in files:
                snapshot = _usable(files[source.name], source, now)
                if snapshot is not None:
                    found[source.name] = snapshot
        for name in files.keys() - set(known):
            self._remove(files[name], name)
        return found

    def start(self) -> None:
        self._thread.start()

    def keep(self, snapshot: Snapshot) -> None:
        """Write it soon, in another thread."""
        self._enqueue(snapshot.source, snapshot)

    def forget(self, source: str) -> None:
        """Remove a source's file: nothing of it is served any more."""
        self._enqueue(source, None)

    def close(self, timeout: float = 1.0) -> None:
        """Write what still waits, for at most `timeout` seconds."""
        end = monotonic() + timeout
        with self._changed:
            while (self._waiting or self._writing) and self._thread.is_alive() and monotonic() < end:
                self._changed.wait(max(0.0, end - monotonic()))
            self._closed = True
            self._changed.notify_all()

    def _enqueue(self, source: str, snapshot: Snapshot | None) -> None:
        with self._changed:
            self._waiting[source] = snapshot
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                source = next(iter(self._waiting))
                snapshot = self._waiting.pop(source)
                self._writing = True
            self._write(source, snapshot)

    def _write(self, source: str, snapshot: Snapshot | None) -> None:
        """A failure is told once, until one goes well again."""
        file = self._folder / f"{source}{_SUFFIX}"
        try:
            if snapshot is None:
                file.unlink(missing_ok=True)
                return
            _replace(file, encode(snapshot))
        except OSError as error:
            self.failures += 1
            if not self._failing:
                what = "snapshot not written: a restart would have a gap"
                log.warning(what, source=source, folder=str(self._folder), error=error.strerror)
            self._failing = True
        else:
            self._failing = False

    def _remove_unfinished(self, now: float) -> None:
        """Files that a process left when it was killed while it wrote them."""
        for file in self._folder.glob(f".*{_SUFFIX}.*"):
            with contextlib.suppress(OSError):  # another exporter removes it, too
                if now - file.stat().st_mtime > _UNFINISHED_FOR:
                    file.unlink()

    def _remove(self, file: Path, name: str) -> None:
        """Only a file that is ours."""
        with contextlib.suppress(OSError, NoSnapshot, ValueError):
            if decode(file.read_bytes()).source == name:
                file.unlink()
                log.info("snapshot of a vanished source removed", source=name)
                return
        log.warning("file ignored", file=str(file), reason="is no snapshot of a source of this configuration")


def _replace(file: Path, parts: Iterable[bytes]) -> None:
    """Write the file as a whole or not at all; only its owner may read it."""
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")  # in containers, process ids are alike
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            output.writelines(parts)
        unfinished.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _usable(file: Path, source: SourceConfig, now: float) -> Snapshot | None:
    """The file's snapshot if it may be served, else a log line that says why not."""
    try:
        snapshot = decode(file.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, NoSnapshot) else f"cannot be read: {error}"
        log.warning("snapshot ignored", source=source.name, file=str(file), reason=reason)
        return None
    if snapshot.source != source.name or snapshot.config != of_source(source):
        log.info("snapshot ignored", source=source.name, reason="the source's configuration has changed")
    elif now - snapshot.at >= source.stale_after:
        log.info("snapshot ignored", source=source.name, reason="its data is older than max_staleness")
    else:
        return snapshot
    return None
