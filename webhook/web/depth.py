"""How deep JSON may be nested: deeper than anything that is sent to us, and long before a parser's stack ends."""

from __future__ import annotations

import json

DEEPEST = 64


class TooDeep(ValueError):  # noqa: N818 - an answer to the sender
    """A body nested deeper than DEEPEST."""

    def __init__(self) -> None:
        super().__init__(f"nested too deeply: at most {DEEPEST} levels are taken")


def load_json(body: bytes) -> object:
    """Raise TooDeep, or another ValueError for what is no JSON."""
    try:
        document: object = json.loads(body)
    except RecursionError:
        raise TooDeep from None
    if body.count(b"[") + body.count(b"{") > DEEPEST:  # few deliveries hold so many: the rest need no second look
        check_depth(document)
    return document


def check_depth(document: object) -> None:
    """Raise TooDeep. Level by level, without recursion."""
    level: list[object] = [document]
    for _ in range(DEEPEST + 1):
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                below += part.values()
            elif isinstance(part, list):
                below += part
        if not below:
            return
        level = below
    raise TooDeep
