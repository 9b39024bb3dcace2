"""What a person does to an alert: who, when, on which version of it, and who is mentioned. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from webhook.domain.access import Principal

LONGEST_SNOOZE = timedelta(days=30)
MOST_MENTIONS = 20
_MENTION = re.compile(r"(?<![\w@./-])@([A-Za-z0-9](?:[\w.-]{0,62}\w)?)")


class DismissReason(StrEnum):
    FALSE_POSITIVE = "FALSE_POSITIVE"
    NORMAL_BUSINESS = "NORMAL_BUSINESS"
    OTHER = "OTHER"


class VersionChanged(ValueError):  # noqa: N818 - an answer to a person, not a failure of ours
    """The alert has changed since it was looked at; `present` is its version now."""

    def __init__(self, present: int) -> None:
        super().__init__(f"the alert has changed meanwhile: its version is now {present}")
        self.present = present


CONVERSATIONS = frozenset({"console", "slack", "teams", "email", "webapp"})
"""Channels on which people talk with one another: a comment rings nobody's phone."""

MOST_MENTIONED = 10
"""Messages about comments that one alert gets in an hour."""


@dataclass(frozen=True, slots=True)
class Doing:
    """Who does it and when. `actor` is how they call themselves, `by` who was let in: it bounds what they may touch.

    `versions`: those of the alert on which they have decided; None is any.
    """

    actor: str
    by: Principal
    now: datetime
    versions: frozenset[int] | None = None

    def check(self, version: int) -> None:
        """Raise VersionChanged where it was decided on another version."""
        if self.versions is not None and version not in self.versions:
            raise VersionChanged(version)


def mentions(text: str) -> list[str]:
    """The names after an @ in a comment, in order, each once; addresses of e-mail are none."""
    found = dict.fromkeys(match[1] for match in _MENTION.finditer(text))
    return list(found)[:MOST_MENTIONS]
