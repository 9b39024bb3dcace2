"""Whatever stands in the file, reading it ends in a configuration or in problems with a place."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import parse
from exporter.errors import ConfigError

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = [
    yaml.safe_load(example)
    for page in sorted(DOCS.glob("**/*.md"))
    for example in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if "data_sources:" in example
]
SOURCE = """\
data_sources:
- name: s
  type: database
  url_env: URL
  query: SELECT 1
  labels: {since: VALUE}
  metrics: [{source_field: v, prometheus_name: sentinel_v}]
"""
Path_ = tuple[str | int, ...]
UNREADABLE = [
    "2026-02-30", "2026-01-01T00:00:00+99:99", "9" * 5000, "!!bool x", "!!int x",
    "!!float x", "!!timestamp x",
]  # fmt: skip
ODD = [
    [], {}, [[]], [{}], {"a": []}, [None], ["a", ["b"]], None, True, "", "\ud800", "a\ud800", ["\ud800"],
    {"\ud800": 1}, "\0", -1, 10**400, float("nan"), float("-inf"), "x" * 5000, "${", "${X:-}", "${NOT_SET}", "(", "[",
    "*", "%", "\\", "http://[", "https://h:99999/", "a{9999999}", "1" * 5000 + "s", "٣s", "1e999d",
]  # fmt: skip


def places(data: Any, path: Path_ = ()) -> Iterator[Path_]:
    yield path
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def written(example: Any, path: Path_, value: Any) -> str:
    """The example with another value at the path."""
    data = copy.deepcopy(example)
    within = data
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    return yaml.safe_dump(data)


PLACES = [(example, path) for example in EXAMPLES for path in places(example) if path]


@settings(max_examples=150, derandomize=True)
@given(st.sampled_from(PLACES), st.sampled_from([*ODD, *UNREADABLE]))
def test_any_value_anywhere_gives_a_configuration_or_problems(place: tuple[Any, Path_], value: Any) -> None:
    text = written(*place, "PLACEHOLDER" if value in UNREADABLE else value)
    try:
        parse(text.replace("PLACEHOLDER", str(value)), "c.yaml")
    except ConfigError as error:
        problems = error.problems
    else:
        return
    assert all(problem.line >= 1 and problem.message for problem in problems)
    "\n".join(map(str, problems)).encode()


@pytest.mark.parametrize("operator", [[], {}])
def test_an_operator_that_is_no_text(operator: Any) -> None:
    filters = [{"field": "f", "operator": operator, "value": 1}]
    text = SOURCE.replace("VALUE", "a") + "  filters: " + yaml.safe_dump(filters, default_flow_style=True)
    with pytest.raises(ConfigError, match=r"c\.yaml:8: data_sources\[0\]\.filters\[0\]\.operator: "):
        parse(text, "c.yaml")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((value, "is no ") for value in UNREADABLE),
        ("2026-02-30", "is no date or time that there is: correct it, or put it in quotes"),
        ('"a\\ud800"', "has one half of a character"),
    ],
)
def test_what_cannot_be_read_is_told_once_with_its_place(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(SOURCE.replace("VALUE", value), "c.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (6, "data_sources[0].labels.since")
    assert message in problem.message


def test_a_port_that_is_no_number_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("exporter: {port: 2026-02-30}\n" + SOURCE.replace("VALUE", "a"), "c.yaml")
    assert len(caught.value.problems) == 1
