"""JSON Schemas as Markdown: a table for each model, models within it below, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]

_REFERENCE = r"\$\{"  # how the exporter's schema writes that `${VARIABLE}` may stand there
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|"


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@dataclass
class Page:
    """A page in the making. `secrets`: whether a secret may be read from `<key>_env` and `<key>_file` as well."""

    definitions: Mapping[str, Schema]
    secrets: bool = False
    text: list[str] = field(default_factory=list)
    headings: dict[str, str] = field(default_factory=dict)
    _waiting: list[tuple[str, str, str]] = field(default_factory=list)

    def section(self, heading: str, schema: Schema, *, of: str = "", leave_out: Collection[str] = ()) -> None:
        """A heading with its table, then the models that it names. `of` tells keys of one name apart."""
        self.text.append(f"## {heading}")
        self._table(schema, "", of, leave_out)
        while self._waiting:
            name, path, of = self._waiting.pop(0)
            self.text.append(f"### {self.headings[name]}")
            self._table(self.definitions[name], path, of, ())

    def _table(self, schema: Schema, path: str, of: str, leave_out: Collection[str]) -> None:
        if described := schema.get("description"):
            self.text.append(" ".join(described.split()))
        rows = [
            self._row(key, value, key in schema.get("required", ()), path, of)
            for key, value in schema.get("properties", {}).items()
            if key not in leave_out
        ]
        self.text.append("\n".join([_HEAD, *rows]) if rows else "It has no keys of its own.")

    def _row(self, key: str, schema: Schema, required: bool, path: str, of: str) -> str:
        place = f"{path}.{key}" if path else key
        kind = ", or ".join(dict.fromkeys(self._kinds(schema, place, of))) or "any"
        if self.secrets and kind == "secret":
            kind = f"secret; or `{key}_env`, `{key}_file`"
        default = "required" if required else _shown(schema.get("default"))
        cells = (f"`{key}`", kind, default, " ".join(schema.get("description", "").split()))
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    def _kinds(self, schema: Schema, place: str, of: str) -> Iterator[str]:
        if "$ref" in schema:
            yield from self._named(schema["$ref"].rpartition("/")[2], place, of)
        elif "allOf" in schema and len(schema["allOf"]) == 1:
            yield from self._kinds(schema["allOf"][0], place, of)
        elif "allOf" in schema:  # one for each tag
            for choice in schema["allOf"]:
                (tag,) = choice["if"]["properties"].values()
                name = choice["then"]["$ref"].rpartition("/")[2]
                yield from self._named(name, place, of, f"`type: {tag['const']}`")
        elif "anyOf" in schema:
            choices = [choice for choice in schema["anyOf"] if not _noise(choice)]
            for choice in choices or schema["anyOf"][:1]:
                yield from self._kinds(choice, place, of)
        elif schema.get("type") == "array":
            inner = self._kinds(schema.get("items", {}), f"{place}[]", of)
            yield f"list of {' or '.join(inner) or 'any'}"
        elif isinstance(schema.get("additionalProperties"), Mapping) and schema["additionalProperties"]:
            inner = self._kinds(schema["additionalProperties"], f"{place}.*", of)
            yield f"mapping to {' or '.join(inner) or 'any'}"
        else:
            yield _plain(schema)

    def _named(self, name: str, place: str, of: str, words: str = "keys") -> Iterator[str]:
        definition = self.definitions[name]
        if "properties" not in definition:
            yield from self._kinds(definition, place, of)
            return
        if name not in self.headings:
            tag = f", {words}" if words != "keys" else ""
            self.headings[name] = f"`{place}`{f' of {of}' if of else ''}{tag}"
            self._waiting.append((name, place, of))
        yield f"[{words}](#{slug(self.headings[name])})"


def _noise(choice: Schema) -> bool:
    """What may stand there besides, and says nothing of the key: null, a variable, one for a list of one."""
    scalars = choice.get("type"), choice.get("items", {}).get("type")
    return (
        choice.get("type") == "null" or choice.get("pattern") == _REFERENCE or any(isinstance(t, list) for t in scalars)
    )


def _plain(schema: Schema) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        values = [
            value for value in schema["enum"] if str(value).upper() == value or str(value).upper() not in schema["enum"]
        ]
        return ", ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "any")
    if kind == "string":
        if schema.get("pattern", "").startswith(r"^\s*([0-9]+"):
            return "duration"
        return {"password": "secret", "duration": "duration", "rate": "rate", "path": "path", "date-time": "time",
                "uri": "URL", "json": "JSON"}.get(schema.get("format", ""), "text")  # fmt: skip
    return {"boolean": "`true`, `false`", "object": "mapping", "integer": "number", "number": "number"}.get(
        str(kind), "any"
    ) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is None and most is None:
        return ""
    if most is None:
        return f", more than {least}" if "exclusiveMinimum" in schema else f", at least {least}"
    return f", {least} to {most}"


def _shown(default: object) -> str:
    if default in (None, [], {}, ""):
        return ""
    text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return f"`{text}`"
