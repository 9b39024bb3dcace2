from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.negotiation import accepted_form, accepts_gzip

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        (BROWSER, "text"),
        (PROMETHEUS_2, "openmetrics"),
        (PROMETHEUS_3, "openmetrics"),
        ("application/openmetrics-text", "openmetrics"),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", "openmetrics"),
        ('application/openmetrics-text; version="1.0.0"; q="0.5"', "openmetrics"),
        ("application/openmetrics-text;version=0.0.1", "text"),
        ("application/openmetrics-text;version=2.0.0", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.5", "text"),
        ("text/plain;q=0.4, application/openmetrics-text;q=0.5", "openmetrics"),
        ("application/openmetrics-text, */*;q=0.5", "openmetrics"),
        ("application/openmetrics-text;q=0.3, text/*;q=0.5", "text"),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.1, */*;q=1", "openmetrics"),
        ("application/openmetrics-text;q=high", "text"),
        ("application/json", "text"),
    ],
)
def test_the_form_a_client_prefers(accept: str, form: str) -> None:
    assert accepted_form(accept) == form


@pytest.mark.parametrize(
    ("accept", "gzip"),
    [
        ("gzip", True), ("deflate, GZIP;q=0.5", True), ("x-gzip", True), ("*", True), ("br, *;q=0.1", True),
        ("", False), ("deflate, br", False), ("gzip;q=0", False), ("gzip; q=0.000, deflate", False),
        ("gzip;q=0, *", False), ("identity, gzip;q=0.5", False), ("gzip, identity;q=0.5", True), ("gzip;q=x", False),
    ],
)  # fmt: skip
def test_who_gets_gzip(accept: str, gzip: bool) -> None:
    assert accepts_gzip(accept) is gzip


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")))
def test_no_header_breaks_it(header: str) -> None:
    assert accepted_form(header) in ("text", "openmetrics")
    assert accepts_gzip(header) in (True, False)
