from __future__ import annotations

import gzip
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.connection import gathered
from exporter.exposition import CONTENT_TYPES, EOF, Block, Exposition, Family, Form, Page

RATE = Family("sentinel_rate", "gauge", 'a\\b\nc "d"')
COUNT = Family("sentinel_count", "gauge", "Count.")


def text(exposition: Exposition, form: Form = "text", **only: Any) -> str:
    return b"".join(exposition.page(form, **only).parts(gzip=False)).decode()


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


TYPES = {
    "gauge": ("shop_rate", b"shop_rate 0.5\n"),
    "counter": ("pay_total", b"pay_total 7\n"),
    "histogram": (
        "pay_seconds",
        b'pay_seconds_bucket{le="1.0"} 1\npay_seconds_bucket{le="+Inf"} 2\npay_seconds_sum 3\npay_seconds_count 2\n',
    ),
    "info": ("shop_info", b'shop_info{plan="pro"} 1\n'),
    "stateset": ("shop_state", b'shop_state{shop_state="open"} 1\nshop_state{shop_state="closed"} 0\n'),
}


def every_type(source: str = "shop", help_text: str = 'Say "so" \\ it\nis.') -> Exposition:
    exposition = Exposition([Family(name, kind, help_text) for kind, (name, _) in TYPES.items()], [source])
    exposition.publish(source, {name: Block.of(lines) for name, lines in TYPES.values()})
    return exposition


def test_both_formats_say_the_same_in_their_own_headers() -> None:
    exposition = every_type()
    plain, openmetrics = text(exposition), text(exposition, "openmetrics")
    samples = [line for line in plain.splitlines() if not line.startswith("#")]
    assert [line for line in openmetrics.splitlines() if not line.startswith("#")] == samples
    assert [line for line in plain.splitlines() if "TYPE" in line] == [
        "# TYPE shop_rate gauge", "# TYPE pay_total counter", "# TYPE pay_seconds histogram",
        "# TYPE shop_info gauge", "# TYPE shop_state gauge",
    ]  # fmt: skip
    assert [line for line in openmetrics.splitlines() if "TYPE" in line] == [
        "# TYPE shop_rate gauge", "# TYPE pay counter", "# TYPE pay_seconds histogram",
        "# TYPE shop info", "# TYPE shop_state stateset",
    ]  # fmt: skip
    assert '# HELP shop_rate Say "so" \\\\ it\\nis.' in plain
    assert '# HELP shop_rate Say \\"so\\" \\\\ it\\nis.' in openmetrics
    assert "EOF" not in plain + openmetrics
    read = {family.name: family for family in parse_openmetrics(openmetrics + EOF.text.decode())}
    assert {name: family.type for name, family in read.items()} == {
        "shop_rate": "gauge", "pay": "counter", "pay_seconds": "histogram", "shop": "info", "shop_state": "stateset",
    }  # fmt: skip
    assert {family.documentation for family in read.values()} == {'Say "so" \\ it\nis.'}
    counted = [sum(len(family.samples) for family in families) for families in (read.values(), parse_text(plain))]
    assert counted == [len(samples)] * 2


@given(st.text())
@example("\n")
def test_any_help_can_be_read_in_both_formats(words: str) -> None:
    exposition = every_type(help_text=words)
    openmetrics = list(parse_openmetrics(text(exposition, "openmetrics") + "# EOF\n"))
    assert len(openmetrics) == len(list(parse_text(text(exposition)))) == len(TYPES)
    assert openmetrics[0].documentation == words.replace("\0", "").strip()


def test_an_openmetrics_page_ends_once_whatever_follows() -> None:
    page = every_type().page("openmetrics").then(Block.of(b"# TYPE own gauge\nown 1\n"), EOF)
    plain = gzip.decompress(b"".join(page.parts(gzip=True)))
    assert plain == b"".join(page.parts(gzip=False))
    assert plain.endswith(b"own 1\n# EOF\n")
    assert CONTENT_TYPES["openmetrics"].startswith("application/openmetrics-text; version=1.0.0")


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ({"names": ["sentinel_rate"]}, {"sentinel_rate"}),
        ({"names": []}, set()),
        ({"names": ["nothing"]}, set()),
        ({"sources": ["two"]}, {"sentinel_count"}),
        ({"sources": ["two", "gone"], "names": ["sentinel_rate"]}, set()),
        ({"sources": ["one"]}, {"sentinel_rate", "sentinel_count"}),
    ],
)
def test_a_page_of_some_families_and_sources(only: dict[str, Any], wanted: set[str]) -> None:
    exposition = Exposition([RATE, COUNT], ["one", "two"])
    exposition.publish("one", lines("one", sentinel_rate=1, sentinel_count=2))
    exposition.publish("two", lines("two", sentinel_count=3))
    found = text(exposition, **only)
    assert {line.split("{")[0] for line in found.splitlines() if not line.startswith("#")} == wanted
    assert found.count("# TYPE") == len(wanted)
    assert ('s="one"' not in found) or only.get("sources", ["one"]) == ["one"]


def test_a_family_is_found_by_any_of_its_names() -> None:
    exposition = every_type()
    for names, wanted in {
        ("pay_seconds_bucket",): "pay_seconds", ("pay",): "pay_total", ("pay_total",): "pay_total",
        ("shop",): "shop_info",
    }.items():  # fmt: skip
        (header,) = [line for line in text(exposition, names=names).splitlines() if line.startswith("# TYPE")]
        assert header.split()[2] == wanted


def test_blocks_of_a_source_can_be_carried_over() -> None:
    before = every_type()
    carried = before.blocks("shop")
    after = Exposition([Family("pay_total", "counter", "Now alone.")], ["other", "shop"])
    after.publish("shop", carried)
    assert text(after) == "# HELP pay_total Now alone.\n# TYPE pay_total counter\npay_total 7\n"
    assert set(after.blocks("shop")) == {"pay_total"}
    assert after.blocks("nobody") == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("xyz")), st.booleans()), max_size=12))
def test_after_any_publishing_the_page_is_the_last_of_each_source(
    steps: list[tuple[str, set[str], bool]],
) -> None:
    names = {letter: f"family_{letter}" for letter in "xyz"}
    exposition = Exposition([Family(name, "gauge", "") for name in names.values()], list("abc"))
    last: dict[str, dict[str, str]] = {source: {} for source in "abc"}
    for number, (source, letters, scraped) in enumerate(steps):
        last[source] = {names[letter]: f'{names[letter]}{{s="{source}"}} {number}\n' for letter in letters}
        exposition.publish(source, {name: Block.of(line.encode()) for name, line in last[source].items()})
        if scraped:
            text(exposition)
            text(exposition, "openmetrics")
    wanted = ""
    for name in names.values():
        found = [last[source][name] for source in "abc" if name in last[source]]
        wanted += "".join([f"# TYPE {name} gauge\n", *found]) if found else ""
    assert text(exposition) == text(exposition, "openmetrics") == wanted


def test_a_page_is_joined_once_until_something_is_published() -> None:
    families = [Family(f"family_{number}", "gauge", "") for number in range(100)]
    exposition = Exposition(families, [str(number) for number in range(100)])
    for number in range(100):
        exposition.publish(str(number), {f"family_{number}": Block.of(b"x 1\n")})
    assert exposition.page() is exposition.page()
    before = exposition.page()
    exposition.publish("7", {"family_7": Block.of(b"x 2\n")})
    assert exposition.page() is not before
    assert len(exposition.page().blocks) == 200


@given(st.lists(st.sampled_from([b"", b"abc", b"x" * 30_000, b"y" * 300_000])))
def test_parts_are_gathered_without_changing_them(parts: list[bytes]) -> None:
    written = list(gathered(parts))
    assert b"".join(written) == b"".join(parts)
    assert all(written)
    small = 256 * 1024
    assert sum(len(part) < small for part in written) <= 1 + sum(len(part) > small for part in written)
    assert all(any(part is large for part in written) for large in parts if len(large) > small)
