"""What Slack would refuse of a message or a form: its limits on numbers and characters, as Block Kit documents them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES = {"header", "section", "context", "actions", "input", "divider", "image"}
_TEXT = {"header": 150, "section": 3000, "context": 2000}
_OPTION_TEXT, _OPTION_VALUE = 75, 150


def block_errors(blocks: list[dict[str, Any]], most: int = 50) -> list[str]:
    wrong = [f"more than {most} blocks"] if len(blocks) > most else []
    named = [block["block_id"] for block in blocks if "block_id" in block]
    if len(named) != len(set(named)) or any(len(name) > 255 for name in named):
        wrong.append("block_id")
    for block in blocks:
        if block["type"] not in _TYPES:
            wrong.append(f"unknown block {block['type']}")
        wrong += _text_errors(block)
        wrong += _fields_errors(block)
        wrong += [error for element in _elements(block) for error in _element_errors(element)]
        actions = [element["action_id"] for element in _elements(block) if "action_id" in element]
        if len(actions) != len(set(actions)) or len(actions) > 25:
            wrong.append("action_id")
    return wrong


def view_errors(view: dict[str, Any]) -> list[str]:
    wrong = block_errors(view.get("blocks", []), 100)
    if view.get("type") != "modal":
        wrong.append("type")
    wrong += [name for name in ("title", "submit", "close") if not 1 <= len(view.get(name, {}).get("text", "")) <= 24]
    if len(view.get("private_metadata", "")) > 3000 or len(view.get("callback_id", "")) > 255:
        wrong.append("private_metadata or callback_id length")
    if any(block["type"] == "input" for block in view.get("blocks", [])) and "submit" not in view:
        wrong.append("submit is wanted beside inputs")
    return wrong


def _elements(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from block.get("elements", []) if block["type"] == "actions" else []
    if "element" in block:
        yield block["element"]


def _text_errors(block: dict[str, Any]) -> list[str]:
    kind, wrong = block["type"], []
    texts = [block["text"]] if "text" in block else []
    if kind == "context":
        texts += block["elements"]
        wrong += ["more than 10 elements"] if len(block["elements"]) > 10 else []
    if any(not 1 <= len(text["text"]) <= _TEXT.get(kind, 3000) for text in texts):
        wrong.append(f"{kind} length")
    if kind == "header" and block["text"]["type"] != "plain_text":
        wrong.append("a header is plain text")
    if kind == "image" and not 1 <= len(block.get("alt_text", "")) <= 2000:
        wrong.append("alt_text")
    if kind == "input" and not 1 <= len(block["label"]["text"]) <= 2000:
        wrong.append("label length")
    return wrong


def _fields_errors(block: dict[str, Any]) -> list[str]:
    fields = block.get("fields", [])
    wrong = ["more than 10 fields"] if len(fields) > 10 else []
    if any(not 1 <= len(entry["text"]) <= 2000 for entry in fields):
        wrong.append("field length")
    return wrong


def _element_errors(element: dict[str, Any]) -> list[str]:
    wrong, kind = [], element["type"]
    if kind == "button" and not 1 <= len(element["text"]["text"]) <= 75:
        wrong.append("button length")
    if len(element.get("value", "")) > 2000 or len(element.get("url", "")) > 3000:
        wrong.append("value or url length")
    if element.get("style", "primary") not in ("primary", "danger"):
        wrong.append("style")
    if len(element.get("placeholder", {}).get("text", "")) > 150:
        wrong.append("placeholder length")
    if element.get("max_length", 1) > 3000:
        wrong.append("max_length")
    if kind in ("static_select", "radio_buttons"):
        wrong += _option_errors(element, 100 if kind == "static_select" else 10)
    return wrong


def _option_errors(element: dict[str, Any], most: int) -> list[str]:
    options = element["options"]
    wrong = [] if 1 <= len(options) <= most else ["number of options"]
    wrong += [
        "option length"
        for option in options
        if not 1 <= len(option["text"]["text"]) <= _OPTION_TEXT or len(option["value"]) > _OPTION_VALUE
    ]
    if element.get("initial_option", options[0]) not in options:
        wrong.append("initial_option")
    return wrong
