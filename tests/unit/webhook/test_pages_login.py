from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.exceptions import TooManyRequests

from webhook.web.login import local_path
from webhook.web.rates import ATTEMPTS, Rates, RateSettings, near


@pytest.mark.parametrize("path", ["/alerts", "/alerts?status=ACTIVE&q=a%20b", "/triggers?before=2026_x#top", "/"])
def test_a_path_of_this_host_is_gone_to(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "", None,
     "javascript:alert(1)", "/\t/evil.example", "/a\r\nSet-Cookie: x=1", "alerts", "/\x00", " //evil.example"],
)  # fmt: skip
def test_anything_else_is_not(target: str | None) -> None:
    assert local_path(target) is None


@given(st.text(alphabet="/\\ab:.?#@\t\r\n []", max_size=12))
@example("/[")
def test_no_text_leads_to_another_host(text: str) -> None:
    found = local_path(text)
    if found is not None:
        seen_by_a_browser = found.replace("\\", "/").replace("\t", "").replace("\n", "").replace("\r", "")
        assert not seen_by_a_browser.startswith("//")
        assert not urlsplit(seen_by_a_browser).netloc


def test_guessing_from_the_addresses_of_one_network_is_guessing_from_one() -> None:
    assert near("2001:db8:1:2::1") == near("2001:db8:1:2:ffff::9")
    assert near("2001:db8:1:2::1") != near("2001:db8:1:3::1")
    assert near("192.0.2.1") != near("192.0.2.2")
    assert near("") == ""


def test_the_port_that_a_proxy_adds_makes_no_new_caller() -> None:
    assert near("192.0.2.1:40001") == near("192.0.2.1:40002") == near("192.0.2.1")
    assert near("[2001:db8:1:2::1]:40001") == near("[2001:db8:1:2::9]") == near("2001:db8:1:2::1")
    assert near("::ffff:192.0.2.1") == near("192.0.2.1")
    assert near("unknown:80") == "unknown:80"


def test_guesses_count_by_address() -> None:
    rates = Rates(RateSettings())
    for _ in range(ATTEMPTS):
        rates.guessed("192.0.2.1")
    with pytest.raises(TooManyRequests):
        rates.guessed("192.0.2.1")
    rates.guessed("192.0.2.2")
