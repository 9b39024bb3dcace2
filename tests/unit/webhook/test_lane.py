"""A few threads for work of one kind: how many more pieces would begin at once."""

from __future__ import annotations

import threading

from webhook.pipeline.lane import Lane


def test_who_waits_for_room_is_told_when_there_is_some() -> None:
    room, done = threading.Event(), threading.Event()
    lane = Lane("test", 1, room.set)
    assert lane.free() == 1
    lane.submit(done.wait)
    assert lane.free() == 0
    done.set()
    assert room.wait(60)
    assert lane.free() == 1
    lane.close()
