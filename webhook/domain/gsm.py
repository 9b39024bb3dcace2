"""What a text costs as SMS: GSM 03.38 counts septets, and one character that it lacks makes all of it UCS-2.

Written out: the one library for it brings a layer for Python 2 along.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
"""Each is an escape and a character: two septets."""

_SAME = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        "\u2026": "...",
        "\u2022": "-",
        "\u00d7": "x",
        "\u2265": ">=",
        "\u2264": "<=",
        "\u0152": "OE",
        "\u0153": "oe",
        "\u0141": "L",
        "\u0142": "l",
        "\u0110": "D",
        "\u0111": "d",
        "\u0131": "i",
        "\t": " ",
    }
)
_GSM, _UCS2 = (160, 153), (70, 67)  # units of a message of one segment, and of each of several
_LAST_OF_ONE = 0xFFFF  # the last character that is one UTF-16 unit


class Cost(NamedTuple):
    """`units` are septets or UTF-16 units."""

    encoding: str
    units: int
    segments: int


def transliterated(text: str) -> str:
    """In GSM characters where that keeps the meaning: accents go, typography becomes plain; other scripts stay."""
    return "".join(_character(c) for c in text.translate(_SAME))


def _character(c: str) -> str:
    if c in _BASIC or c in _EXTENDED:
        return c
    plain = "".join(part for part in unicodedata.normalize("NFKD", c) if not unicodedata.combining(part))
    return plain if plain and all(part in _BASIC or part in _EXTENDED for part in plain) else c


def cost(text: str) -> Cost:
    """No character is torn: one of two units that would begin at a segment's last unit begins the next."""
    gsm = all(c in _BASIC or c in _EXTENDED for c in text)
    sizes = [2 if c in _EXTENDED else 1 for c in text] if gsm else [2 if ord(c) > _LAST_OF_ONE else 1 for c in text]
    one, of_several = _GSM if gsm else _UCS2
    units = sum(sizes)
    return Cost("GSM-7" if gsm else "UCS-2", units, 1 if units <= one else _several(sizes, of_several))


def _several(sizes: list[int], room: int) -> int:
    segments, used = 1, 0
    for size in sizes:
        if used + size > room:
            segments, used = segments + 1, 0
        used += size
    return segments
