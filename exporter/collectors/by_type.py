"""Configuration models that are chosen by their key `type`."""

from __future__ import annotations

from pydantic import Discriminator


def by_type(*types: str) -> Discriminator:
    """Chooses among models that are tagged with these types."""
    message = f"type is missing or not possible: use one of {', '.join(types)}"
    return Discriminator(_type_of, custom_error_type="value_missing_or_unknown", custom_error_message=message)


def _type_of(value: object) -> str | None:
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return found if isinstance(found, str) else None
