"""What a new configuration changes, and what became of the last attempt to load one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from exporter.collectors.base import SourceConfig

_TAKES_EFFECT = {"log_level"}


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of sources by what a reload means for them, in the order of the files.

    `served` are those changed ones whose data stays until their first success: what they are mapped to is the same.
    """

    kept: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    served: tuple[str, ...]

    @classmethod
    def between(cls, before: Iterable[SourceConfig], after: Iterable[SourceConfig]) -> Changes:
        old = {source.name: source for source in before}
        new = {source.name: source for source in after}
        both = [name for name in new if name in old]
        return cls(
            kept=tuple(name for name in both if new[name] == old[name]),
            changed=tuple(name for name in both if new[name] != old[name]),
            added=tuple(name for name in new if name not in old),
            removed=tuple(name for name in old if name not in new),
            served=tuple(name for name in both if new[name] != old[name] and new[name].series == old[name].series),
        )


@dataclass(frozen=True, slots=True)
class ReloadState:
    """Whether the last load went well, when one last did (Unix seconds), and the number that stands for its result."""

    successful: bool
    succeeded_at: float
    config_hash: int


def restart_needed(running: BaseModel, loaded: BaseModel) -> tuple[str, ...]:
    """Keys of `exporter:` that differ and are read at the start only."""
    return tuple(
        f"exporter.{key}"
        for key in type(loaded).model_fields
        if key not in _TAKES_EFFECT and getattr(running, key) != getattr(loaded, key)
    )
