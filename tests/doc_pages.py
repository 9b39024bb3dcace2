"""The documentation as its readers have it: links, anchors, and what is written as code."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.tables import slug

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:sentinel-webhook|sentinel-exporter|python3?|curl|kubectl|docker|make|promtool|amtool|pg_\w+)(?= )"
)
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Page:
    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def tokens(self) -> list[Token]:
        return _PARSER.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def anchors(self) -> set[str]:
        """As GitHub makes them: the second heading of a name gets -1."""
        seen: Counter[str] = Counter()
        found = set()
        for before, token in zip(self.tokens, self.tokens[1:], strict=False):
            if before.type == "heading_open":
                name = slug(_words(token))
                found.add(f"{name}-{seen[name]}" if seen[name] else name)
                seen[name] += 1
        return found

    @cached_property
    def links(self) -> list[tuple[int, str]]:
        """Line and target of each link and picture."""
        targets = ((line, inner.attrs.get("href") or inner.attrs.get("src")) for line, inner in self._inline())
        return [(line, str(target)) for line, target in targets if target]

    @cached_property
    def code(self) -> list[tuple[int, str]]:
        """Line and text of each code span, and of each line of a block; one that ends in a backslash goes on."""
        found = [(line, inner.content) for line, inner in self._inline() if inner.type == "code_inline"]
        for token in self.tokens:
            if token.type in ("fence", "code_block"):
                start = (token.map or [0])[0] + 1 + (token.type == "fence")
                lines = re.sub(r"\\\n", "\0", token.content).split("\n")
                for text in lines:
                    found.append((start, text.replace("\0", " ")))
                    start += 1 + text.count("\0")
        return found

    @cached_property
    def blocks(self) -> list[tuple[int, str]]:
        """Line and text of each block of YAML."""
        return [((t.map or [0])[0] + 1, t.content) for t in self.tokens if t.type == "fence" and t.info == "yaml"]

    @cached_property
    def scripts(self) -> list[tuple[int, str]]:
        """Line and text of each block that is neither data nor a picture."""
        blocks = [token for token in self.tokens if token.type in ("fence", "code_block")]
        return [((t.map or [0])[0] + 1, t.content) for t in blocks if t.info in ("", "sh")]

    @cached_property
    def commands(self) -> list[tuple[int, str]]:
        """Line of the block, and each command in it as it is typed: without prompt, comment and virtual environment."""
        found = []
        for line, text in self.scripts:
            lines = re.sub(r"\\\n\s*", "", text).splitlines()
            shown = [each[2:] for each in lines if each.startswith("$ ")] or lines
            typed = [re.sub(r"(?<!\S)\.venv/bin/", "", re.sub(r"\s+# .*", "", each)).strip() for each in shown]
            found += [(line, each) for each in typed if _PROGRAM.match(each)]
        return found

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for token in self.tokens:
            if token.type == "inline":
                line = (token.map or [0])[0] + 1
                for inner in token.children or []:
                    yield line, inner
                    line += inner.type == "softbreak"


def _words(inline: Token) -> str:
    return "".join(inner.content for inner in inline.children or [] if inner.type in ("text", "code_inline"))


PAGES = [Page(path) for path in FILES]


def carried_out(text: str, place: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What a shell in this folder makes of a block of the documentation."""
    return subprocess.run(
        ["sh", "-eu", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
