from __future__ import annotations

import json

import pytest
import structlog

from webhook.logs import MASK, Masked, configure_logging

KEY = "sk_ab12cd34_" + "A-_z" * 10 + "xyz"
HOOK = "https://hooks.slack.com/services/T000/B000/XXXX"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"refused {KEY}!", "refused sk_ab12cd34_***!"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        (f"POST {HOOK} 404", "POST https://hooks.slack.com/*** 404"),
        ("postgresql+psycopg://sentinel:hunter2@db/sentinel", "postgresql+psycopg://sentinel:***@db/sentinel"),
        ("GET /login?token=abc&next=/alerts", "GET /login?token=***&next=/alerts"),
        ("told +49 170 1234567 and +12025550123", "told *** and ***"),
        ("the token is known-secret.", "the token is ***."),
        ("2026-03-14T15:09:26+00:00 took 0.35 s, count 1204", "2026-03-14T15:09:26+00:00 took 0.35 s, count 1204"),
        ("alert 5e0c9f1e-1c1f-4a39-9a30-6b2f0f9f8d11", "alert 5e0c9f1e-1c1f-4a39-9a30-6b2f0f9f8d11"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert Masked(["known-secret", ""]).text(text) == shown


def test_fields_that_are_named_so_and_what_lies_within_are_masked() -> None:
    given = {
        "event": "x",
        "token": "abc",
        "sent": {"phone_numbers": ["+1"], "to": [HOOK]},
        "tokens_used": 5,
        "ok": True,
    }
    masked = Masked([])(None, "info", given)
    assert masked["token"] == MASK
    assert masked["sent"] == {"phone_numbers": [MASK], "to": [f"https://hooks.slack.com/{MASK}"]}
    assert (masked["tokens_used"], masked["ok"]) == (5, True)


def test_no_line_holds_a_secret_not_even_that_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        configure_logging("webhook", secrets=["known-secret"])
        log = structlog.get_logger("test")
        try:
            raise ValueError(f"known-secret {KEY} {HOOK}")  # noqa: TRY301 - its traceback is what is logged
        except ValueError:
            log.exception("failed", url=HOOK, header=f"Bearer {KEY}")
    finally:
        structlog.reset_defaults()
    line = capsys.readouterr().err
    entry = json.loads(line)
    assert entry["event"] == "failed"
    assert "ValueError" in entry["exception"]
    for secret in ("known-secret", KEY, "T000"):
        assert secret not in line
