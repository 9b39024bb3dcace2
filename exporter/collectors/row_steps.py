"""From a nested answer to rows, a step at a time: into lists, into the keys of objects, and with what is above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import jmespath
from pydantic import Field

from exporter.collectors.base import Collection
from exporter.collectors.json_rows import PathText, Row, shape
from exporter.errors import BadAnswer
from exporter.model import StrictModel

Items = list[tuple[str | None, Any]]
Column = Annotated[str, Field(min_length=1)]


class RowStep(StrictModel):
    """Where the rows are, seen from the row above, and which columns the step adds to them."""

    path: PathText = Field(description="JMESPath, seen from the row above.")
    key_as: Column | None = Field(None, description="Column for the keys of an object whose values are rows.")
    index_as: Column | None = Field(None, description="Column for positions, from 0.")
    value_as: Column | None = Field(None, description="Column for values that are no objects.")
    name: Column | None = Field(None, description="Under which steps below find this object's fields.")


class RowReader:
    """Follows the steps through answers."""

    def __init__(self, steps: Sequence[RowStep]) -> None:
        self._steps = [(step, jmespath.compile(step.path)) for step in steps]
        self._plain = len(steps) == 1 and not (steps[0].key_as or steps[0].index_as or steps[0].value_as)

    def read(self, answer: object, limit: int, collection: Collection) -> tuple[list[Row], int]:
        """At most `limit` rows, and how many items the first step has found. BadAnswer where it finds none."""
        objects = self._objects(answer) if self._plain else None
        if objects is not None:
            return objects[:limit], len(objects)
        found = self._items(0, answer)
        if found is None:
            raise BadAnswer(f"the answer has nothing at rows `{self._steps[0][0].path}`; it is {shape(answer)}")
        missing: list[str] = []
        rows = list(islice(self._rows(0, found, {}, missing), limit))
        if missing and not rows:
            raise BadAnswer(f"rows: no object has anything at `{missing[0]}`")
        for path in dict.fromkeys(missing):
            collection.warn("rows_missing", missing.count(path), f"rows: an object has nothing at `{path}`")
        return rows, len(found)

    def _objects(self, answer: object) -> list[Row] | None:
        """The one step's list where it is rows already, which it mostly is; a tuple for each would take a while."""
        try:
            found = self._steps[0][1].search(answer)
        except jmespath.exceptions.JMESPathError:
            return None  # told where the steps are followed
        return found if isinstance(found, list) and all(isinstance(item, dict) for item in found) else None

    def _rows(self, depth: int, items: Items, above: Row, missing: list[str]) -> Iterator[Row]:
        """Rows of one step's items and of the steps below; `above` are the columns that are known so far."""
        step = self._steps[depth][0]
        last = depth + 1 == len(self._steps)
        for position, (key, item) in enumerate(items):
            known = dict(above)
            if step.key_as:
                known[step.key_as] = key
            if step.index_as:
                known[step.index_as] = position
            if last:
                yield self._row(step, position, item) | known
                continue
            if step.name:
                known[step.name] = item
            below = self._items(depth + 1, item)
            if below is None:
                missing.append(self._steps[depth + 1][0].path)
            else:
                yield from self._rows(depth + 1, below, known, missing)

    def _items(self, depth: int, value: object) -> Items | None:
        """What a step finds in a value, with its key where it stood in an object; None where there is nothing."""
        step, path = self._steps[depth]
        try:
            found = path.search(value)
        except jmespath.exceptions.JMESPathError as error:
            raise BadAnswer(f"rows `{step.path}` cannot be read from the answer: {error}") from None
        last = depth + 1 == len(self._steps)
        match found:
            case None:
                return None
            case dict() if step.key_as:
                return list(found.items())
            case dict() if not last:
                return [(None, found)]
            case list() if not step.key_as:
                return [(None, item) for item in found]
        wanted = "an object, as key_as needs it" if step.key_as else "a list"
        hint = "; if each of its keys is a row, add key_as" if isinstance(found, dict) else ""
        raise BadAnswer(f"rows `{step.path}` is {shape(found)}, not {wanted}{hint}")

    def _row(self, step: RowStep, position: int, item: object) -> Row:
        """The columns of one item: an object's keys, a list's positions, or the one of a plain value."""
        if isinstance(item, dict):
            return item
        if isinstance(item, list):
            return {str(index): value for index, value in enumerate(item)}
        if step.value_as:
            return {step.value_as: item}
        hint = "" if item is None else ": name it with value_as"
        raise BadAnswer(f"rows `{step.path}`[{position}] is {shape(item)}, not an object{hint}")
