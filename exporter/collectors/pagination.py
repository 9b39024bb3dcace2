"""Where the next page is, decided from the last one; each way of paging is a configuration of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urljoin

import jmespath
from pydantic import Field, Tag

from exporter.collectors.by_type import by_type
from exporter.collectors.http_errors import server_of
from exporter.collectors.json_rows import PathText, shape
from exporter.errors import BadAnswer
from exporter.model import StrictModel

Count = Annotated[int, Field(ge=1)]
Start = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Turn:
    """Which page to ask for: with further parameters, or at a URL that has all of them."""

    params: Mapping[str, str | int] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What an answer says about the next one. `items` is the length of its list of rows, `url` where it came from."""

    data: object
    items: int
    url: str
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class _Paging(StrictModel):
    max_pages: Count = Field(100, description="More are an error.")


class _ByParameter(_Paging):
    """Ways that need parameters, in the query or at dotted paths of the JSON body."""

    into: Literal["params", "body"] = Field(
        "params", description="Where the parameters go: the query, or dotted paths of the body."
    )


class PageNumbers(_ByParameter):
    """Pages by number, from `first` on, until the answer says that there are no more, or a page is empty."""

    type: Literal["page"] = Field(description="`page`.")
    page_param: str = Field("page", description="Parameter of the page's number.")
    size_param: str | None = Field("page_size", description="Parameter of its size.")
    size: Count = Field(100, description="Rows of a page.")
    first: Start = Field(1, description="Number of the first page.")
    has_more: PathText | None = Field(
        "pagination.has_more", description="Path in the answer that says whether there are more."
    )

    def start(self) -> Turn:
        return self._turn(self.first)

    def after(self, turn: Turn, page: Page) -> Turn | None:
        more = truth_at(page.data, self.has_more) if self.has_more else page.items > 0
        return self._turn(int(turn.params[self.page_param]) + 1) if more else None

    def _turn(self, number: int) -> Turn:
        return Turn({self.page_param: number} | ({self.size_param: self.size} if self.size_param else {}))


class Offsets(_ByParameter):
    """Pages by the number of rows before them, until the answer says that there are no more, or a page is empty.

    A page that is merely short does not end it: servers cap the size that they are asked for.
    """

    type: Literal["offset"] = Field(description="`offset`.")
    offset_param: str = Field("offset", description="Parameter of the rows before the page.")
    limit_param: str = Field("limit", description="Parameter of its size.")
    limit: Count = Field(100, description="Rows of a page.")
    first: Start = Field(0, description="Offset of the first page.")
    has_more: PathText | None = Field(None, description="Path in the answer that says whether there are more.")
    total: PathText | None = Field(None, description="Path in the answer to the number of all rows.")

    def start(self) -> Turn:
        return self._turn(self.first)

    def after(self, turn: Turn, page: Page) -> Turn | None:
        following = int(turn.params[self.offset_param]) + page.items
        more = page.items > 0
        if self.has_more:
            more = more and truth_at(page.data, self.has_more)
        if self.total:
            more = more and following - self.first < _number_at(page.data, self.total)
        return self._turn(following) if more else None

    def _turn(self, offset: int) -> Turn:
        return Turn({self.offset_param: offset, self.limit_param: self.limit})


class Cursor(_ByParameter):
    """Pages by a cursor from the answer, until it has none."""

    type: Literal["cursor"] = Field(description="`cursor`.")
    next: PathText = Field(description="Path in the answer to the next cursor.")
    cursor_param: str = Field("cursor", description="Parameter of the cursor.")
    size_param: str | None = Field(None, description="Parameter of the page's size.")
    size: Count = Field(100, description="Rows of a page.")
    has_more: PathText | None = Field(None, description="Path in the answer that says whether there are more.")

    def start(self) -> Turn:
        return Turn({self.size_param: self.size} if self.size_param else {})

    def after(self, turn: Turn, page: Page) -> Turn | None:
        if self.has_more and not truth_at(page.data, self.has_more):
            return None
        found = jmespath.search(self.next, page.data)
        if found is None or found is False or found == "":
            return None
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise BadAnswer(f"pagination.next `{self.next}` is {shape(found)}, not text or a number")
        if self.cursor_param in turn.params and str(found) == str(turn.params[self.cursor_param]):
            raise BadAnswer(f"pagination: the cursor after a page is that of the page itself, at `{self.next}`")
        return Turn({**self.start().params, self.cursor_param: found if isinstance(found, int) else str(found)})


class LinkHeader(_Paging):
    """Pages by the header `Link: <…>; rel="next"` (RFC 8288)."""

    type: Literal["link"] = Field(description="`link`.")

    def start(self) -> Turn:
        return Turn()

    def after(self, turn: Turn, page: Page) -> Turn | None:  # noqa: ARG002 - as the other ways have it
        link = page.links.get("next", {}).get("url")
        return _at(link, page.url) if link else None


class NextUrl(_Paging):
    """Pages by a URL in the answer, until it has none."""

    type: Literal["next_url"] = Field(description="`next_url`.")
    next: PathText = Field(description="Path in the answer to the next page's URL.")

    def start(self) -> Turn:
        return Turn()

    def after(self, turn: Turn, page: Page) -> Turn | None:  # noqa: ARG002 - as the other ways have it
        found = jmespath.search(self.next, page.data)
        if found is None or found in ("", False):
            return None
        if not isinstance(found, str):
            raise BadAnswer(f"pagination.next `{self.next}` is {shape(found)}, not a URL")
        return _at(found, page.url)


Pagination = Annotated[
    Annotated[PageNumbers, Tag("page")]
    | Annotated[Offsets, Tag("offset")]
    | Annotated[Cursor, Tag("cursor")]
    | Annotated[LinkHeader, Tag("link")]
    | Annotated[NextUrl, Tag("next_url")],
    by_type("page", "offset", "cursor", "link", "next_url"),
]


class Walk:
    """Notices pages that come again, which would go on until `max_pages`."""

    def __init__(self) -> None:
        self._turns: set[tuple[object, ...]] = set()
        self._bodies: dict[bytes, int] = {}

    def answered(self, number: int, digest: bytes, items: int) -> None:
        """BadAnswer for a page, by its number from 1, that is byte for byte an earlier one and has rows."""
        first = self._bodies.setdefault(digest, number)
        if items and first != number:
            raise BadAnswer(
                f"pagination: page {number} is the same as page {first}: does the server know these parameters?"
            )

    def turn_to(self, turn: Turn) -> None:
        """BadAnswer for a page that was already asked for."""
        key = (turn.url, *sorted(turn.params.items()))
        if key in self._turns:
            what = "URL" if turn.url else "cursor"
            raise BadAnswer(f"pagination goes in a circle: the {what} of the next page was already asked for")
        self._turns.add(key)


def truth_at(answer: object, path: str) -> bool:
    """A required true or false in the answer."""
    found = jmespath.search(path, answer)
    if not isinstance(found, bool):
        raise BadAnswer(f"the answer has no true or false at `{path}`; it is {shape(answer)}")
    return found


def _number_at(answer: object, path: str) -> float:
    found = jmespath.search(path, answer)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadAnswer(f"the answer has no number at `{path}`; it is {shape(answer)}")
    return found


def _at(link: str, base: str) -> Turn:
    """The next page, on the server that gave this one; no other one gets to see our credentials."""
    url = urljoin(base, link)
    try:
        server = server_of(url)
    except (KeyError, ValueError):
        raise BadAnswer("pagination: the URL of the next page is no web address") from None
    if server != server_of(base):
        raise BadAnswer(f"pagination: the next page is on another server, {server}, which is not asked")
    return Turn(url=url)
