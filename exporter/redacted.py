"""The configuration as it may be shown: as written, with its defaults, and without what could be a secret.

What is shown is what cannot hold one: numbers, switches, choices, durations, names of variables and of files, and the
keys in `_NAMES`, which name things. Of any other text only its references (`${VARIABLE}`) and placeholders are left; of
an address its host and plain words of its path; of SQL what is neither quoted nor a comment. A key that this module has
never heard of is therefore hidden, not shown. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from exporter.config import ExporterConfig
from exporter.mapping.spec import FilterConfig, MetricConfig, has_key
from exporter.model import LATE, parse_duration

HIDDEN = "***"
# Texts that name things: they end up in /metrics as they are, or say where to look without letting anybody in.
_NAMES = frozenset(
    {"name", "type", "prometheus_name", "source_field", "labels", "label_defaults", "help", "rows", "path", "has_more"}
    | {"host", "bucket", "region", "location", "project", "database", "path_pattern", "topic", "topics"}
    | {"cron", "time_zone", "unit", "format", "field", "event_time", "delimiter", "quote", "max_bytes"}
    | {"brokers", "group", "app", "earliest", "latest", "warm_start"}
)
_NAMES_UNLESS_LATE = ("value", "_param")  # endings of keys that name a field or a parameter, where they are plain text
_ADDRESSES = frozenset(["endpoint", "endpoint_url", "token_url", "url", "proxy"])
_SQL = "query"
_POINTS_ELSEWHERE = ("_env", "_file")
_CLOSED = (bool, int, float, NoneType)

_KEPT = re.compile(
    r"(?P<plain>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}"
    r"|(?P<placeholder>\{(?:time_from|time_to|account_ids|date|hour)\})"
)
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<end>#.*)?"
)
_HOST = re.compile(r"(?:[A-Za-z0-9.:_\[\]-]|\$\{\w+\})*")
_PLAIN_WORD = re.compile(r"[a-z][a-z_-]{0,30}|v[0-9]{1,2}|")
_QUOTED = re.compile(
    r"'(?:[^']|'')*(?:'|$)|\"[^\"]*(?:\"|$)|\$(\w*)\$(?!\{).*?(?:\$\1\$|$)|/\*(?:(?!/\*|\*/).)*\*/|/\*.*|(?:--|#)[^\n]*",
    re.DOTALL,
)
_AMBIGUOUS = ("\\", "'''", '"""')  # where a string ends then depends on the dialect


def config_page(config: ExporterConfig) -> str:
    """YAML of the whole configuration."""
    sources = config.written.get("data_sources") or []
    page = {
        "exporter": _model(config.server, config.written.get("exporter") or {}),
        "data_sources": [_model(source, written) for source, written in zip(config.sources, sources, strict=True)],
    }
    return yaml.dump(page, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _model(model: BaseModel, written: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that are written in the order of the file, then those with a default that is not empty."""
    fields = type(model).model_fields
    shown = {
        key: _value(key, fields[key], value, getattr(model, key)) for key, value in written.items() if key in fields
    }
    for key, field in fields.items():
        default = getattr(model, key)
        if isinstance(model, MetricConfig) and not has_key(model.type, key):
            continue
        if key not in written and default is not None and default not in ({}, ()):
            shown[key] = _default(field, default)
    return shown


def _default(field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - whatever a field holds
    """A value that comes from the code, and so is no secret."""
    if isinstance(value, BaseModel):
        return _model(value, {})
    if isinstance(value, tuple):
        return [_model(item, {}) if isinstance(item, BaseModel) else to_jsonable_python(item) for item in value]
    return f"{value:g}s" if _is_duration(field) else to_jsonable_python(value, exclude_none=True)


def _value(key: str, field: FieldInfo, written: Any, value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """What may be shown of what is written for a field; `value` is what it has become."""
    if isinstance(value, BaseModel) and isinstance(written, Mapping):
        return _model(value, written)
    if isinstance(value, tuple) and isinstance(written, list) and len(value) == len(written):
        return [_value(key, field, one, each) for one, each in zip(written, value, strict=True)]
    if isinstance(value, dict) and isinstance(written, Mapping) and value.keys() == written.keys():
        return {name: _value(key, field, one, value[name]) for name, one in written.items()}
    if _names_something(key, field):
        return written
    late = LATE in field.metadata
    if written is None or (isinstance(written, _CLOSED) and not late):
        return value if isinstance(value, _CLOSED) and not _is_duration(field) else written
    closed = not late and all(_is_closed(kind) for kind in _kinds(field.annotation))
    return written if closed else _leaves(key, written)


def _names_something(key: str, field: FieldInfo) -> bool:
    if key in _NAMES or key.endswith(_POINTS_ELSEWHERE):
        return True
    if field is FilterConfig.model_fields.get(key):  # data to compare with, not a name
        return False
    return key.endswith(_NAMES_UNLESS_LATE) and LATE not in field.metadata


def _leaves(key: str, written: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Hide every value, however deep; the keys of mappings stay."""
    if isinstance(written, Mapping):
        return {name: _leaves(key, value) for name, value in written.items()}
    if isinstance(written, list):
        return [_leaves(key, value) for value in written]
    if not isinstance(written, str):
        return HIDDEN
    address = _ADDRESS.fullmatch(written) if key in _ADDRESSES else None
    if address is not None:
        return _address(address)
    return _sql(written) if key == _SQL else masked(written)


def masked(text: str) -> str:
    """Only the references and placeholders of a text, and none of their defaults."""
    return "".join(_masked_parts(text))


def _masked_parts(text: str) -> Iterator[str]:
    end = 0
    for match in _KEPT.finditer(text):
        if match["plain"]:
            continue
        if match.start() > end:
            yield HIDDEN
        end = match.end()
        yield match["placeholder"] or f"${{{match['name']}{':-' + HIDDEN if match['default'] else ''}}}"
    if end < len(text):
        yield HIDDEN


def _address(match: re.Match[str]) -> str:
    user, at, host = match["authority"].rpartition("@")
    shown = match["scheme"] + (masked(user) + "@" if at else "") + (host if _HOST.fullmatch(host) else masked(host))
    words = (word if _PLAIN_WORD.fullmatch(word) else masked(word) for word in match["path"].split("/"))
    shown += "/".join(words)
    if match["query"]:
        pairs = (pair.partition("=") for pair in match["query"][1:].split("&"))
        shown += "?" + "&".join(name + sign + masked(value) if sign else masked(name) for name, sign, value in pairs)
    return shown + (f"#{HIDDEN}" if match["end"] else "")


def _sql(text: str) -> str:
    if any(sign in text for sign in _AMBIGUOUS):
        return masked(text)
    return _QUOTED.sub(lambda match: match[0][0] + masked(match[0][1:-1]) + match[0][0], text)


def _is_duration(field: FieldInfo) -> bool:
    found = [*field.metadata, *(extra for kind in _kinds(field.annotation) for extra in get_args(kind)[1:])]
    return any(isinstance(extra, BeforeValidator) and extra.func is parse_duration for extra in found)


def _is_closed(kind: Any) -> bool:  # noqa: ANN401 - a type
    """Whether no text of one's own can be a value of this type."""
    inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return inner in _CLOSED or get_origin(inner) is Literal


def _kinds(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type
    """The members of a union, or the type itself."""
    if annotation in _CLOSED or get_origin(annotation) in (Annotated, Literal, tuple, list, dict):
        return (annotation,)
    return get_args(annotation) or (annotation,)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # libyaml's, where there is one
    """Texts of several lines as blocks, as people write them."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
    return node


_Dumper.add_representer(str, _text)
