from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.promql import format_duration, parse_duration, replace_durations, replace_durations_in_template


def marked(text: str) -> str:
    return f"<{text}>"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        *[("0", 0), (0, 0), ("0s", 0), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000)],
        *[("1d", 86_400_000), ("1w", 604_800_000), ("1y", 31_536_000_000), ("1m30s500ms", 90_500)],
    ],
)
def test_durations_are_read_as_prometheus_reads_them(text: object, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1.5h", "5M", 5, None, 1.5, ["5m"]])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**13))
def test_a_duration_that_is_written_is_read_as_the_same(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("avg_over_time(m[7d])", "avg_over_time(m[<7d>])"),
        ("m[ 1h30m ]", "m[ <1h30m> ]"),
        ("max_over_time(rate(m[5m])[1h:30s])", "max_over_time(rate(m[<5m>])[<1h>:<30s>])"),
        ("m[1h:]", "m[<1h>:]"),
        ("m offset 1h", "m offset <1h>"),
        ("m OFFSET -1h", "m OFFSET -<1h>"),
        ("m[5m] offset # the hour before\n  1h", "m[<5m>] offset # the hour before\n  <1h>"),
        ("m[5m] # [5m] offset 5m\n + m[5m]", "m[<5m>] # [5m] offset 5m\n + m[<5m>]"),
        ("""m{a="[5m]",b='offset 5m',c=`[5m]`}[5m]""", """m{a="[5m]",b='offset 5m',c=`[5m]`}[<5m>]"""),
        (r"""m{a="\"[5m]",b='\'[5m]',c=`\`}[5m]""", r"""m{a="\"[5m]",b='\'[5m]',c=`\`}[<5m>]"""),
        ("job:rate5m + a_5m + offset5m", "job:rate5m + a_5m + offset5m"),
        ("sum by (offset) (m{offset='5m'}) > 5", "sum by (offset) (m{offset='5m'}) > 5"),
        ("m @ 1609746000 > 1e3 and on (a) m offset 5m > 0x5d", "m @ 1609746000 > 1e3 and on (a) m offset <5m> > 0x5d"),
        ("time() - m > 300", "time() - m > 300"),
    ],
)
def test_ranges_steps_and_offsets_are_replaced_and_nothing_else(expression: str, expected: str) -> None:
    assert replace_durations(expression, marked) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("f(g(m[5m])[1h:30s] offset 2h)", "f(g(m[<5m>])[<1h>:{30s}] offset <2h>)"),
        ("f(m[1h : 30s]) + f(job:m[1h])", "f(m[<1h> : {30s}]) + f(job:m[<1h>])"),
        ("f(m[1h:] offset 5m)", "f(m[<1h>:] offset <5m>)"),
    ],
)
def test_steps_of_subqueries_may_be_replaced_by_something_else(expression: str, expected: str) -> None:
    assert replace_durations(expression, marked, lambda text: f"{{{text}}}") == expected
    template = "{{ with printf `EXPR` $x | query }}"
    in_template = replace_durations_in_template(
        template.replace("EXPR", expression), marked, lambda text: f"{{{text}}}"
    )
    assert in_template == template.replace("EXPR", expected)


@given(st.text(alphabet="am5[]:\"'`\\# \n{}=offset 1hd()-+@>.,", max_size=60))
def test_replacing_by_the_same_changes_no_expression_however_odd(expression: str) -> None:
    assert replace_durations(expression, lambda text: text) == expression


@given(st.text(max_size=30).filter(lambda text: "`" not in text))
def test_no_label_value_is_taken_for_a_range(value: str) -> None:
    expression = f"m{{label=`{value}`}}[5m]"
    assert replace_durations(expression, marked) == f"m{{label=`{value}`}}[<5m>]"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Twice that of [1h] before, offset 1h", "Twice that of [1h] before, offset 1h"),
        ("{{ $labels.range }} [5m] {{ $value }}", "{{ $labels.range }} [5m] {{ $value }}"),
        ("{{ reReplaceAll `[5m]` `x` $labels.a }}", "{{ reReplaceAll `[5m]` `x` $labels.a }}"),
        ("{{ with printf `m{a=%[1]q}[1h]` $x | query }}[1h]", "{{ with printf `m{a=%[1]q}[<1h>]` $x | query }}[1h]"),
        ('{{ query "m[1h] offset 1h" }}', '{{ query "m[<1h>] offset <1h>" }}'),
        (r'{{ query "m{a=\"[1h]\"}[1h]" }}', r'{{ query "m{a=\"[1h]\"}[<1h>]" }}'),
        ('{{ query "m{a=`}}`}[1h]" | first | label "1h" }}', '{{ query "m{a=`}}`}[<1h>]" | first | label "1h" }}'),
        (r'{{ query "m{a=\"\"}" }}', r'{{ query "m{a=\"\"}" }}'),
    ],
)
def test_in_templates_only_queries_are_changed(template: str, expected: str) -> None:
    assert replace_durations_in_template(template, marked) == expected


def test_an_escape_that_only_go_knows_is_named() -> None:
    with pytest.raises(ValueError, match="between backticks"):
        replace_durations_in_template(r'{{ query "m{a=\x22[1h]\x22}[1h]" }}', marked)
