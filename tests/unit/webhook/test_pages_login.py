from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhook.web.auth import ATTEMPT_WINDOW, ATTEMPTS, REMEMBERED_ADDRESSES, LoginAttempts, local_path

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


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


def test_an_address_that_guesses_has_to_wait_and_may_try_again_later() -> None:
    attempts = LoginAttempts()
    for _ in range(ATTEMPTS):
        assert attempts.wait("a", NOW) is None
        attempts.failed("a", NOW)
    assert attempts.wait("a", NOW + timedelta(seconds=1)) == ATTEMPT_WINDOW - timedelta(seconds=1)
    assert attempts.wait("b", NOW) is None
    assert attempts.wait("a", NOW + ATTEMPT_WINDOW) is None


def test_a_right_token_forgives_earlier_slips() -> None:
    attempts = LoginAttempts()
    for _ in range(ATTEMPTS):
        attempts.failed("a", NOW)
    attempts.succeeded("a")
    assert attempts.wait("a", NOW) is None


def test_guessing_from_many_addresses_does_not_fill_the_memory() -> None:
    attempts = LoginAttempts()
    for number in range(REMEMBERED_ADDRESSES + 50):
        attempts.failed(str(number), NOW)
    assert len(attempts._failures) == REMEMBERED_ADDRESSES
