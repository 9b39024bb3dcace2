"""Settings that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable


class ConfigError(Exception):
    """The settings cannot be used; `problems` has one line for each reason and shows no value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))
