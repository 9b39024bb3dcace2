"""Which file a `path_pattern` means: its time fields filled in, and the newest of those that a glob matches. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal
from zoneinfo import ZoneInfo

NewestBy = Literal["modified", "name"]
FIELDS = {"date": "%Y-%m-%d", "year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M"}
_BRACES = re.compile(r"(?<!\$)\{([^{}]*)\}")  # `${VARIABLE}` is a reference to the environment
_WILDCARD = re.compile(r"[*?\[]")
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A file where it is kept. `version` differs when its content does; `modified` is in Unix seconds."""

    name: str
    version: str
    modified: float


def checked_pattern(pattern: str) -> str:
    """`pattern` if all of its fields are known, else ValueError."""
    for field in _BRACES.findall(pattern):
        if field not in FIELDS:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            shift = re.match(rf"({'|'.join(FIELDS)})\s*([+-].*)", field)
            hint = f"write {{{shift[1]}}} and set offset: {shift[2]}, which moves every field" if shift else ""
            raise ValueError(f"{{{field}}} is no field: {hint or f'use {known}'}")
    if "**" in pattern:
        raise ValueError("has `**`: write one `*` for each folder")
    if "\0" in pattern:
        raise ValueError("has a NUL character, which no file name has")
    return pattern


def filled(pattern: str, now: datetime, zone: ZoneInfo, offset: float) -> str:
    """`pattern` with its fields as the time at `now` + `offset` (seconds, may be negative) in `zone`.

    Whole days of the offset keep the time of day, so that a day before is the day before when clocks change, too.
    """
    days = int(offset / _DAY)
    local = now.astimezone(zone) + timedelta(days=days)
    at = (local.astimezone(UTC) + timedelta(seconds=math.fmod(offset, _DAY))).astimezone(zone)
    return _BRACES.sub(lambda field: at.strftime(FIELDS[field[1]]) if field[1] in FIELDS else field[0], pattern)


def is_glob(path: str) -> bool:
    return _WILDCARD.search(path) is not None


def fixed_prefix(path: str) -> str:
    """What all names that the glob matches start with."""
    found = _WILDCARD.search(path)
    return path[: found.start()] if found else path


def one_folder(path: str) -> bool:
    """Whether all files that the glob matches are in one folder."""
    return "/" not in path[len(fixed_prefix(path)) :]


def matches(path: str, name: str) -> bool:
    """Whether a glob matches a name as a shell does: `*` stays in a folder, and no name that starts with a dot."""
    parts, names = path.split("/"), name.split("/")
    return len(parts) == len(names) and all(map(_part_matches, parts, names))


def newest_of(files: Iterable[Stored], by: NewestBy) -> Stored:
    """The file modified last, or the last by name; of those modified at once the last by name. Needs at least one."""
    return max(files, key=lambda file: (file.modified if by == "modified" else 0, file.name))


def matching(files: Iterable[Stored], path: str) -> Iterator[Stored]:
    return (file for file in files if matches(path, file.name))


def _part_matches(part: str, name: str) -> bool:
    if not is_glob(part):
        return part == name
    hidden = name.startswith(".") and not part.startswith(".")
    return bool(name) and not hidden and fnmatchcase(name, part)
