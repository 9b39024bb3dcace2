"""What a collection brought, as the mapping reads it: columns by name, and what to say of one that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from exporter.errors import BadAnswer, FieldMissing


@dataclass(frozen=True, slots=True)
class Table:
    """Columns that metrics read, and the names of all fields of the answer they come from, for messages."""

    frame: pl.DataFrame
    fields: Sequence[str]

    def column(self, name: str) -> pl.Series:
        """FieldMissing where the answer has no such field, BadAnswer where it has more than one."""
        if self.fields.count(name) > 1:
            raise BadAnswer(f"the result has more than one column {name!r}: give each its own name, in SQL with AS")
        if name not in self.frame.columns:
            raise FieldMissing(name, self.fields)
        return self.frame[name]
