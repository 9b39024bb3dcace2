"""A few threads for work of one kind: how many more pieces would begin at once."""

from __future__ import annotations

import threading

from webhook.pipeline.lane import Lane


def test_who_waits_for_room_goes_on_when_there_is_some() -> None:
    lane, done = Lane("test", 1), threading.Event()
    assert lane.free() == 1
    lane.submit(done.wait)
    assert lane.free() == 0
    asked = threading.Thread(target=done.set)
    asked.start()
    assert lane.free(within=60) == 1
    asked.join()
    lane.close()
