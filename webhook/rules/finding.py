"""What a check of a rule file found, and where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    ERROR = "error"
    """The rule does not do what it says, or the webhook cannot use what it hands on."""
    WARNING = "warning"
    """It works, but is seldom meant."""


@dataclass(frozen=True, slots=True)
class Place:
    """Counted from 1, as editors do."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is the name of the check, `rule` that of the rule or empty, `hint` says what to do."""

    place: Place
    rule: str
    check: str
    message: str
    hint: str
    level: Level = Level.ERROR

    def document(self) -> dict[str, Any]:
        """For JSON."""
        fields = asdict(self)
        place: dict[str, Any] = fields.pop("place")
        return place | fields
