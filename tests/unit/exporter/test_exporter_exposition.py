from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from exporter.connection import gathered
from exporter.exposition import Block, Exposition, Family, Page

RATE = Family("sentinel_rate", "gauge", 'a\\b\nc "d"')
COUNT = Family("sentinel_count", "gauge", "Count.")


def text(exposition: Exposition) -> str:
    return b"".join(exposition.page().parts(gzip=False)).decode()


def lines(source: str, **values: float) -> dict[str, Block]:
    return {name: Block.of(f'{name}{{s="{source}"}} {value}\n'.encode()) for name, value in values.items()}


@given(st.lists(st.binary()))
def test_compressed_and_plain_pages_are_the_same(texts: list[bytes]) -> None:
    page = Page().then(*map(Block.of, texts))
    compressed = b"".join(page.parts(gzip=True))
    assert gzip.decompress(compressed) == b"".join(page.parts(gzip=False)) == b"".join(texts)


def test_a_compressed_page_is_one_gzip_member_that_gzip_itself_accepts(tmp_path: Path) -> None:
    page = Page().then(Block.of(b"first\n" * 9999), Block.of(b"second\n")).then(Block.of(b"third\n"))
    file = tmp_path / "page.gz"
    file.write_bytes(b"".join(page.parts(gzip=True)))
    assert subprocess.run(["gzip", "--test", file], check=True, capture_output=True).stderr == b""
    assert file.read_bytes().count(b"\x1f\x8b\x08") == 1


def test_one_header_per_family_whatever_the_number_of_sources() -> None:
    exposition = Exposition([RATE, COUNT, Family("sentinel_rate", "gauge", "another help")], ["one", "two"])
    exposition.publish("two", lines("two", sentinel_rate=2))
    exposition.publish("one", lines("one", sentinel_rate=1, sentinel_count=3))
    assert text(exposition) == (
        '# HELP sentinel_rate a\\\\b\\nc "d"\n# TYPE sentinel_rate gauge\n'
        'sentinel_rate{s="one"} 1\nsentinel_rate{s="two"} 2\n'
        '# HELP sentinel_count Count.\n# TYPE sentinel_count gauge\nsentinel_count{s="one"} 3\n'
    )


def test_a_source_is_replaced_as_a_whole() -> None:
    exposition = Exposition([RATE, COUNT], ["one"])
    exposition.publish("one", lines("one", sentinel_rate=1, sentinel_count=3))
    before = exposition.page()
    exposition.publish("one", lines("one", sentinel_count=4))
    assert "sentinel_rate" not in text(exposition)
    assert 'sentinel_count{s="one"} 4' in text(exposition)
    assert b"sentinel_rate" in b"".join(before.parts(gzip=False)), "a scrape that began before sees only the old one"


def test_a_family_without_samples_has_no_header() -> None:
    exposition = Exposition([RATE], ["one"])
    exposition.publish("one", {"sentinel_rate": Block.of(b"")})
    assert text(exposition) == ""
    exposition.publish("one", lines("one", sentinel_rate=1))
    exposition.drop("one")
    assert text(exposition) == ""


@given(st.lists(st.sampled_from([b"", b"abc", b"x" * 30_000, b"y" * 70_000])))
def test_parts_are_gathered_without_changing_them(parts: list[bytes]) -> None:
    written = list(gathered(parts))
    assert b"".join(written) == b"".join(parts)
    assert all(written)
    assert sum(len(part) < 64 * 1024 for part in written) <= 1 + sum(len(part) > 64 * 1024 for part in written)
