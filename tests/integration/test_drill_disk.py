"""The file system that a drill fills: what writes there hears ENOSPC, and goes on when there is room again."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from drills import disk


def test_a_full_disk_refuses_and_has_room_again(tmp_path: Path) -> None:
    with disk.small(tmp_path) as place:
        if place is None:
            pytest.skip("nothing may be mounted here")
        database = place / "sentinel.db"
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE one (id)")
            disk.empty_log(database)
            with disk.full(place):
                with pytest.raises(sqlite3.OperationalError, match="full"):
                    connection.execute("INSERT INTO one VALUES (1)")
                with pytest.raises(OSError, match="No space") as refused:
                    (place / "other").write_bytes(bytes(8192))
                assert refused.value.errno == errno.ENOSPC
            connection.execute("INSERT INTO one VALUES (2)")
    assert not place.is_mount()
    assert list(place.iterdir()) == []
