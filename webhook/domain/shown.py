"""What a message that stays where it is shows of its alert, and which of two states is the later."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """`at`: when what is told was queued; `version`: of its alert when that was read; `look`: one for each state."""

    at: datetime
    version: int
    look: str

    def __str__(self) -> str:
        return f"{self.at.isoformat()}/{self.version}/{self.look}"

    @classmethod
    def read(cls, text: object) -> Shown | None:
        """None for what was written by nobody, or by an older release."""
        try:
            at, version, look = str(text).split("/")
            return cls(datetime.fromisoformat(at), int(version), look)
        except ValueError:
            return None

    def is_before(self, other: Shown | None) -> bool:
        return other is not None and (self.at, self.version) < (other.at, other.version)


def look_of(*state: object) -> str:
    """A short hash of all that the message shows of its alert's state."""
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
