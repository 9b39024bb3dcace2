"""What all configuration models share: unknown keys refused, `${VAR}` expanded, durations, secrets."""

from __future__ import annotations

from typing import Annotated, Any, Final

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from exporter.environment import expand, references

_SHORTEST, _LONGEST = 0.1, 366 * 86_400.0


class _Late:
    """Marks text whose `${VAR}` is read at every collection, not when the configuration is loaded."""


LATE: Final = _Late()


def parse_duration(value: object) -> float:
    """Seconds from text such as `30s`, `5m`, `1h30m` or `1d`; a number has no unit and is refused."""
    example = "write a number with its unit, such as 30s, 5m, 1h30m or 1d"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is no duration: {example}")  # noqa: TRY004 - pydantic reports ValueErrors, not TypeErrors
    if not isinstance(value, str) or value.strip().replace(".", "", 1).isdigit():
        raise ValueError(f"{value} has no unit: write {value}s if seconds are meant")
    try:
        seconds = float(durationpy.from_str(value.strip()).total_seconds())
    except (durationpy.DurationError, OverflowError):
        raise ValueError(f"{value!r} is no duration: {example}") from None
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(f"{value!r} is out of range: use something from 100ms to 366d")
    return seconds


def expand_text(value: object) -> object:
    """Text with its references replaced; anything else as it is, for the next validator to refuse."""
    return expand(value) if isinstance(value, str) else value


def as_reference(value: str | None) -> str | None:
    if value is not None and not list(references(value)):
        raise ValueError("a secret does not belong into this file: write ${VARIABLE}, or use the _env or _file key")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Template = Annotated[str, LATE]
OptionalTemplate = Annotated[str | None, LATE]
SecretTemplate = Annotated[str | None, LATE, AfterValidator(as_reference)]
Text = Annotated[str, BeforeValidator(expand_text)]


class StrictModel(BaseModel):
    """Base of all configuration models."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def expand_now(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - anything that YAML can hold
        field = cls.model_fields[str(info.field_name)]
        if LATE in field.metadata:
            return value
        if isinstance(value, str):
            return expand(value)
        if isinstance(value, list):
            return [expand(item) if isinstance(item, str) else item for item in value]
        return value


def at_most_one(model: BaseModel, *keys: str) -> bool:
    """Whether one of the keys is given; ValueError where several are."""
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} say the same thing: keep one")
    return bool(given)


def exactly_one(model: BaseModel, *keys: str) -> None:
    """ValueError unless one of the keys is given."""
    if sum(getattr(model, key) is not None for key in keys) != 1:
        raise ValueError(f"needs exactly one of {', '.join(keys[:-1])} and {keys[-1]}")
