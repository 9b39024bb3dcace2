from __future__ import annotations

import pytest

from webhook.domain.masking import masked, unmasked

ALIKE = ["+1200000890", "+1300000890"]  # both are shown as +1******890
SHOWN, OTHER = "+1******890", "+4915112345678"


def stored(*numbers: str) -> dict[str, dict[str, object]]:
    return {"sms": {"phone_numbers": list(numbers)}}


def test_what_comes_back_as_it_was_shown_is_what_is_stored() -> None:
    channels = stored(*ALIKE, OTHER) | {"slack": {"webhook_url": "https://hooks.slack.com/services/T0/B0/secretabcd"}}
    assert unmasked(masked(channels), channels) == (channels, {})


def test_a_new_one_between_two_that_look_alike_changes_neither() -> None:
    whole, wrong = unmasked(stored(SHOWN, OTHER, SHOWN), stored(*ALIKE))
    assert (whole, wrong) == (stored(ALIKE[0], OTHER, ALIKE[1]), {})


@pytest.mark.parametrize("sent", [[SHOWN], [SHOWN] * 3, [SHOWN, ALIKE[0]]])
def test_of_two_that_look_alike_none_is_chosen(sent: list[str]) -> None:
    _, wrong = unmasked(stored(*sent), stored(*ALIKE))
    assert list(wrong) == ["channels.sms.phone_numbers"]
    assert "mask of 2 that are stored" in wrong["channels.sms.phone_numbers"]


def test_one_that_is_stored_twice_is_one() -> None:
    assert unmasked(stored(SHOWN), stored(ALIKE[0], ALIKE[0])) == (stored(ALIKE[0]), {})


def test_a_mask_of_nothing_is_told() -> None:
    _, wrong = unmasked(stored(SHOWN), stored(OTHER))
    assert "nothing that is stored" in wrong["channels.sms.phone_numbers"]
