"""What can go wrong, and whether trying again soon can help.

ExporterError
├── ConfigError          the configuration file has one or more problems
├── CannotServe          a certificate or credential of the HTTP server cannot be used
│   └── AddressTaken     its address cannot be bound
└── CollectError         one collection of one source failed      reason         retryable
    ├── Unreachable      no connection, or it broke               unreachable    yes
    ├── TimedOut         the source's `timeout` passed            timeout        yes
    ├── RateLimited      429; carries Retry-After                 rate_limited   yes
    ├── ServerFailed     5xx                                      server_error   yes
    ├── Denied           wrong or missing permission              denied         no
    │   └── Unauthorized 401: the credentials themselves          denied         no, and stops the source
    ├── QueryRefused     the database refused the statement       query          no
    ├── BadAnswer        not the kind or shape of answer expected bad_answer     no
    ├── FieldMissing     a configured column is not in the result missing_field  no
    ├── DuplicateSeries  two rows have the same labels            duplicates     no
    ├── BudgetExceeded   `max_rows`, `max_series`, a size cap     budget         no
    ├── SecretMissing    an environment variable or file is gone  secret         no
    └── Unsupported      a library that the type needs is missing unsupported    no, and stops the source

FieldMissing, DuplicateSeries and a BadAnswer about one field cost their own metric only; they fail a collection when
they leave it no metric.

A failure that is not retryable is tried again at the source's next interval: by then somebody may have put it right.
One that stops the source is not: asking again and again with credentials that were refused locks accounts. Such a
source goes on when a secret that it reads has changed, or when the configuration is loaded again.
"""

# ruff: noqa: N818 - named for what happened, as the tree above reads

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar


class ExporterError(Exception):
    """Base of everything the exporter raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right in a configuration file: where (1-based line, dotted path), what, and what to do."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "")
        return where + self.message


class ConfigError(ExporterError):
    """The configuration cannot be used; `problems` has all of them in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(map(str, self.problems)))


class CannotServe(ExporterError):
    """The HTTP server cannot start as it is configured."""


class AddressTaken(CannotServe):
    """The HTTP server cannot listen on its address."""


class CollectError(ExporterError):
    """One collection failed. `retry_after` is in seconds, where the source named a time."""

    reason: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    stops: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(CollectError):
    reason = "unreachable"
    retryable = True


class TimedOut(CollectError):
    reason = "timeout"
    retryable = True


class RateLimited(CollectError):
    reason = "rate_limited"
    retryable = True


class ServerFailed(CollectError):
    reason = "server_error"
    retryable = True


class Denied(CollectError):
    reason = "denied"


class Unauthorized(Denied):
    stops = True


class QueryRefused(CollectError):
    reason = "query"


class BadAnswer(CollectError):
    reason = "bad_answer"


class FieldMissing(CollectError):
    reason = "missing_field"

    def __init__(self, field: str, available: Iterable[str]) -> None:
        names = list(available)
        near = difflib.get_close_matches(field, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"the result has no field {field!r}{hint} It has: {', '.join(names) or 'no fields'}.")


class DuplicateSeries(CollectError):
    reason = "duplicates"


class BudgetExceeded(CollectError):
    reason = "budget"


class SecretMissing(CollectError):
    reason = "secret"


class Unsupported(CollectError):
    reason = "unsupported"
    stops = True
