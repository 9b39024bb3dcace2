from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from gunicorn.config import Config

from webhook.logs import MASK, Masked, configure_logging
from webhook.server import _Log

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


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged: each line as JSON; whatever is no JSON fails."""
    root, written = logging.getLogger(), StringIO()
    before = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", written)
    configure_logging("webhook", secrets=["known-secret"])
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level = before


Lines = Callable[[], list[dict[str, Any]]]


def test_no_line_holds_a_secret_not_even_that_of_an_error(lines: Lines) -> None:
    log = structlog.get_logger("test")
    try:
        raise ValueError(f"known-secret {KEY} {HOOK}")  # noqa: TRY301 - its traceback is what is logged
    except ValueError:
        log.exception("failed", url=HOOK, header=f"Bearer {KEY}")
    (entry,) = lines()
    assert entry["event"] == "failed"
    assert "ValueError" in entry["metadata"]["exception"]
    for secret in ("known-secret", KEY, "T000"):
        assert secret not in json.dumps(entry)


def test_a_line_has_the_fields_of_the_owners_format(lines: Lines) -> None:
    structlog.get_logger("test").info(
        "alert_created", merchant_id="acc_1", alert_id="x", trace_id="t", alert_type="CARD_TESTING", severity="P1"
    )
    (entry,) = lines()
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "level": "INFO",
        "service": "webhook",
        "trace_id": "t",
        "merchant_id": "acc_1",
        "alert_id": "x",
        "event": "alert_created",
        "message": "Alert created",
        "metadata": {"alert_type": "CARD_TESTING", "severity": "P1"},
    }


def test_lines_of_libraries_come_out_the_same_way_and_masked(lines: Lines) -> None:
    for name in ("gunicorn.error", "urllib3.connectionpool", "authlib", "alembic.runtime.migration"):
        logging.getLogger(name).warning("gave up on %s with %s", HOOK, "known-secret")
    try:
        raise ConnectionError("known-secret")  # noqa: TRY301 - its traceback is what is logged
    except ConnectionError:
        logging.getLogger("authlib").exception("no answer")
    *told, broken = lines()
    assert {line["message"] for line in told} == {f"gave up on https://hooks.slack.com/{MASK} with {MASK}"}
    assert [line["metadata"]["logger"] for line in told][:2] == ["gunicorn.error", "urllib3.connectionpool"]
    assert (broken["level"], broken["event"], broken["service"]) == ("ERROR", "library_message", "webhook")
    assert "ConnectionError" in broken["metadata"]["exception"]
    assert "known-secret" not in json.dumps(broken)


def test_gunicorns_own_lines_are_among_them(lines: Lines) -> None:
    config = Config()
    config.set("loglevel", "warning")
    log = _Log(config)
    log.error("worker %s was killed, known-secret", 7)
    (line,) = lines()
    assert (line["message"], line["metadata"]["logger"]) == (f"worker 7 was killed, {MASK}", "gunicorn.error")
