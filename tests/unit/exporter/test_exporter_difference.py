from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.difference import difference

BEFORE = """# HELP sentinel_a A.
# TYPE sentinel_a gauge
sentinel_a{x="1",y="a b"} 1
sentinel_a{x="2",y="}{"} 2.0
sentinel_a{x="3",y="\\"c\\\\"} 3
# TYPE sentinel_gone gauge
sentinel_gone 1
# TYPE sentinel_h histogram
sentinel_h_bucket{le="+Inf"} 4
sentinel_h_sum NaN
"""
AFTER = """# TYPE sentinel_a counter
sentinel_a{y="a b",x="1"} 1
sentinel_a{x="2",y="}{"} 2
sentinel_a{x="3",y="\\"c\\\\"} 4
sentinel_a{x="4",y="d"} 5
# TYPE sentinel_h histogram
sentinel_h_bucket{le="+Inf"} 4
sentinel_h_sum NaN
# TYPE sentinel_new gauge
sentinel_new{z="line\u2028separator"} 1
"""


def test_what_is_new_gone_and_changed() -> None:
    found = {family.name: family for family in difference(BEFORE, AFTER)}
    assert list(found) == ["sentinel_a", "sentinel_h", "sentinel_new", "sentinel_gone"]
    a = found["sentinel_a"]
    assert (a.new, a.gone, a.changed) == (('sentinel_a{x="4",y="d"}',), (), ('sentinel_a{x="3",y="\\"c\\\\"}',))
    assert a.retyped
    assert not found["sentinel_h"].any
    assert found["sentinel_new"].before is None
    assert found["sentinel_new"].new == ('sentinel_new{z="line\u2028separator"}',)
    assert found["sentinel_gone"].after is None
    assert found["sentinel_gone"].gone == ("sentinel_gone",)


samples = st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=12)


@given(samples, samples)
def test_counts_add_up(before: dict[int, int], after: dict[int, int]) -> None:
    def text(values: dict[int, int]) -> str:
        return "# TYPE m gauge\n" + "".join(f'm{{i="{key}"}} {value}\n' for key, value in values.items())

    (family,) = difference(text(before), text(after))
    assert len(family.new) == len(after.keys() - before.keys())
    assert len(family.gone) == len(before.keys() - after.keys())
    assert len(family.changed) == sum(before[key] != after[key] for key in before.keys() & after.keys())
    assert family.any is (before != after)
