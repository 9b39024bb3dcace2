"""The whole configuration file as a JSON Schema (2020-12), so that an editor completes and checks while one types.

It says what each key may hold. What several keys mean together, `check` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Union

from pydantic import Discriminator, Field, Tag, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from exporter.collectors.registry import SOURCE_TYPES, config_model
from exporter.model import StrictModel, as_reference, expand_text, parse_duration
from exporter.server_config import ServerConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TAG = "type"
_REFERENCE = r"\$\{"
_DURATION = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|d|w|mm|y)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|d|w|mm|y))*\s*$"
_FREE_TEXT = {"type": "string"}
_SCALAR = {"type": ["string", "number", "boolean"]}
_EXPANDS = StrictModel.expand_now.__func__  # type: ignore[attr-defined] # the validator of every key


def config_schema() -> dict[str, Any]:
    """The schema, with every source type; needs none of the libraries that the types read their sources with."""
    types = tuple(Annotated[config_model(kind), Tag(kind)] for kind in SOURCE_TYPES)
    source: Any = Annotated[Union[types], Discriminator(_tag)]  # noqa: UP007 - the members are not known here
    whole = create_model(
        "Configuration",
        __base__=StrictModel,
        exporter=(ServerConfig | None, Field(None, description="The exporter itself.")),
        data_sources=(
            list[source],
            Field(min_length=1, description="What is collected, from where, how often, and the metrics it becomes."),
        ),
    )
    schema = TypeAdapter(whole).json_schema(schema_generator=_Generator)
    head = {"$schema": DIALECT, "title": "Configuration of the Sentinel exporter"}
    return head | {key: value for key, value in schema.items() if key not in ("title", "description")}


def _tag(data: Any) -> object:  # noqa: ANN401 - whatever stands in the file
    """A function, for a key that a validator reads beforehand (`${VARIABLE}`) cannot be pydantic's discriminator."""
    return data.get(_TAG) if isinstance(data, dict) else None


class _Generator(GenerateJsonSchema):
    """Describes what is written in the file, which is not always what it becomes: `30s` is text, and then a number."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        function = _function(schema)
        if function is parse_duration:
            example = {"examples": ["30s", "5m", "1h30m", "1d"]}
            return {"type": "string", "pattern": _DURATION, "description": "A number with its unit."} | example
        written = super().function_before_schema(schema)
        if getattr(function, "__func__", None) is _EXPANDS:
            return _or_reference(written)
        declared = "json_schema_input_schema" in schema or function is expand_text
        return written if declared else _or_short(written)

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        written = super().function_after_schema(schema)
        if _function(schema) is as_reference:
            return {**written, "anyOf": [{**_FREE_TEXT, "pattern": _REFERENCE}, {"type": "null"}]}
        return written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Without the defaults that are not written like this, such as those of durations, in seconds."""
        written = super().default_schema(schema)
        default = written.get("default")
        if isinstance(default, int | float) and not isinstance(default, bool) and _takes_text_only(written):
            written["default"] = f"{default:g}s"
        elif default is None:
            written.pop("default", None)
        return written

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """One condition per tag, so that an editor speaks about the keys of the type that is written, not of all."""
        key = schema["discriminator"] if isinstance(schema["discriminator"], str) else _TAG
        choices = {str(tag): self.generate_inner(choice) for tag, choice in schema["choices"].items()}
        return {
            "type": "object",
            "required": [key],
            "properties": {key: {"enum": list(choices)}},
            "allOf": [
                {"if": {"type": "object", "required": [key], "properties": {key: {"const": tag}}}, "then": choice}
                for tag, choice in choices.items()
            ],
        }


def _function(schema: Any) -> Callable[..., object]:  # noqa: ANN401 - a core schema with a validator
    function: Callable[..., object] = schema["function"]["function"]
    return function


def _or_short(written: JsonSchemaValue) -> JsonSchemaValue:
    """A validator that has not said what it reads may take text, a number or a list of them, too."""
    values = written.get("additionalProperties")
    inside = {**written, "additionalProperties": _SCALAR} if values == _FREE_TEXT else {**written}
    outside: JsonSchemaValue = {key: inside.pop(key) for key in ("default", "description", "examples") if key in inside}
    return {"anyOf": [inside, _SCALAR, {"type": "array", "items": _SCALAR}], **outside}


def _or_reference(written: JsonSchemaValue) -> JsonSchemaValue:
    """What is one value, but not any text, may be written as `${VARIABLE}`, too."""
    choices = written.get("anyOf", [written])
    if "const" in written or any(map(_takes_any_text, choices)) or not any(map(_is_one_value, choices)):
        return written
    outside: JsonSchemaValue = {key: written[key] for key in ("default", "description", "examples") if key in written}
    inside = {key: value for key, value in written.items() if key not in outside}
    choices = [*inside["anyOf"]] if set(inside) == {"anyOf"} else [inside]
    return {"anyOf": [*choices, {**_FREE_TEXT, "pattern": _REFERENCE}], **outside}


def _takes_any_text(choice: JsonSchemaValue) -> bool:
    return "string" in _types(choice) and not {"pattern", "enum", "const"} & choice.keys()


def _is_one_value(choice: JsonSchemaValue) -> bool:
    return "enum" in choice or bool({"integer", "number", "boolean", "string"} & _types(choice))


def _types(choice: JsonSchemaValue) -> set[str]:
    kind = choice.get("type", ())
    return {kind} if isinstance(kind, str) else set(kind)


def _takes_text_only(written: JsonSchemaValue) -> bool:
    choices = written.get("anyOf", [written])
    return set().union(*map(_types, choices)) <= {"string", "null"}
