"""Thresholds as people type them: `30 %` for a share, lists with commas. What is shown reads back as what it was."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from webhook.domain.metric import Unit, metric_words

_ITEM = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)')
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_NUMERIC, _LISTS, _TEXTS = (">", ">=", "<", "<="), ("in", "not_in"), ("contains", "regex")


def threshold_text(metric: str, symbol: str, threshold: Any) -> str:  # noqa: ANN401 - number, text or list
    """What `threshold_in` reads back."""
    if isinstance(threshold, list):
        return ", ".join(_item_text(metric, item) for item in threshold)
    return str(threshold) if symbol in _TEXTS else _item_text(metric, threshold)


def threshold_in(metric: str, symbol: str, text: str) -> Any:  # noqa: ANN401 - number, text or list
    """Raise ValueError that says what to write."""
    if symbol in _TEXTS:
        if not text:
            raise ValueError("Write the text to look for.")
        return text
    text = text.strip()
    if symbol in _LISTS:
        items = [item for item in (match[1].strip() for match in _ITEM.finditer(text)) if item]
        if not items:
            raise ValueError("Write one or more values, with commas between them.")
        return [_item(metric, item) for item in items]
    if not text:
        raise ValueError("Write a threshold.")
    found = _item(metric, text)
    if symbol in _NUMERIC and isinstance(found, str):
        raise ValueError("Write a number, such as 30 % or 0.3." if _is_share(metric) else "Write a number, such as 50.")
    return found


def _is_share(metric: str) -> bool:
    return metric_words(metric).unit is Unit.SHARE


def _item_text(metric: str, value: Any) -> str:  # noqa: ANN401 - a number or text
    if isinstance(value, str):
        plain = value.strip() == value and value and not re.search(r'[",%]', value) and not _NUMBER.fullmatch(value)
        return value if plain else json.dumps(value, ensure_ascii=False)
    number = Decimal(repr(float(value)))
    return f"{_digits(number * 100)} %" if _is_share(metric) else _digits(number)


def _digits(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _item(metric: str, text: str) -> float | str:
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            raise ValueError(f"{text} has a quotation mark that does not end.") from None
    bare = text.removesuffix("%").strip()
    if not _NUMBER.fullmatch(bare):
        return text
    try:
        number = Decimal(bare) / (100 if text.endswith("%") else 1)
    except InvalidOperation:
        return text
    found = float(number)
    if not math.isfinite(found):
        raise ValueError("That number is too large.")
    if _is_share(metric) and abs(found) > 1 and not text.endswith("%"):
        percent = _digits(number * 100)
        raise ValueError(f"That would be {percent} %. Write {bare} % for {bare} in a hundred, or {percent} %.")
    return found
