"""Every channel that speaks HTTP, against a server that answers as its provider documents."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes_provider import Answer, ProviderStub
from notes import NOW, ended_note, make_message, make_note

from webhook.domain.alert import NotifyReason
from webhook.domain.severity import Severity
from webhook.notifiers.posting import seconds_to_wait
from webhook.notifiers.registry import Site, build_notifiers
from webhook.notifiers.teams import LONGEST, encoded
from webhook.notifiers.webhook import SignedWebhook, WebhookOptions
from webhook.ports import Notifier, PermanentDeliveryError, Receipt, TemporaryDeliveryError

SECRET = "s3cr3t-0123456789abcdef0123456789"
PUBLIC = "https://sentinel.example"


@dataclass(frozen=True)
class Kind:
    """How a channel is set up against a stub; `refused` is how its provider says no for good."""

    options: Callable[[str, float], dict[str, Any]]
    settings: Callable[[str], dict[str, Any]]
    taken: Answer
    refused: Answer


def discord(url: str) -> dict[str, Any]:
    return {"url": f"discord://123456789012345678/{SECRET}"}


KINDS: Mapping[str, Kind] = {
    "teams": Kind(
        lambda _, timeout: {"timeout": timeout},
        lambda url: {"webhook_url": f"{url}/workflows/{SECRET}"},
        Answer(202, b""),
        Answer(400, {"error": {"code": "WorkflowTriggerIsNotEnabled"}}),
    ),
    "webhook": Kind(
        lambda _, timeout: {"timeout": timeout},
        lambda url: {"webhook_url": f"{url}/{SECRET}", "secret": SECRET},
        Answer(204, b""),
        Answer(410, b"gone"),
    ),
    "opsgenie": Kind(
        lambda url, timeout: {"api_url": url, "timeout": timeout},
        lambda _: {"api_key": SECRET},
        Answer(202, {"result": "Request will be processed", "took": 0.1, "requestId": "43a29c5c"}),
        Answer(422, {"message": f"Key format is not valid: {SECRET}!", "took": 0.1, "requestId": "1"}),
    ),
    "pagerduty": Kind(
        lambda url, timeout: {"api_url": url, "timeout": timeout},
        lambda _: {"routing_key": SECRET},
        Answer(202, {"status": "success", "message": "Event processed", "dedup_key": "from-pagerduty"}),
        Answer(400, {"status": "invalid event", "message": "Event object is invalid", "errors": [f"bad {SECRET}"]}),
    ),
    "sms": Kind(
        lambda url, timeout: {
            "base_url": url,
            "account_sid": "AC0123456789",
            "auth_token": SECRET,
            "from_number": "+15005550006",
            "timeout": timeout,
        },
        lambda _: {"phone_numbers": ["+14155550100"]},
        Answer(201, {"sid": "SM1", "status": "queued"}),
        Answer(400, {"code": 21211, "message": "Invalid 'To' Phone Number: +14155550100", "status": 400}),
    ),
}
each = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def stub() -> Iterator[ProviderStub]:
    with ProviderStub() as stub:
        yield stub


def built(name: str, url: str, timeout: float = 30) -> Notifier:
    options = {name: KINDS[name].options(url, timeout)}
    return build_notifiers([name], options, Site(PUBLIC, insecure_webhooks=True))[name]


def sent(name: str, stub: ProviderStub, **changes: Any) -> Receipt:
    settings = KINDS[name].settings(stub.url)
    return built(name, stub.url).send(make_message(make_note(**changes)), settings)


@each
def test_a_message_is_taken_in_one_call(name: str, stub: ProviderStub) -> None:
    stub.answers.append(KINDS[name].taken)
    sent(name, stub)
    (call,) = stub.calls
    assert call.method == "POST"
    assert b"ard testing attack" in call.body or b"ard+testing+attack" in call.body


@each
@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (Answer(429, headers={"Retry-After": "7"}), 7),
        (Answer(429), 30),
        (Answer(500, b"<html>"), None),
        (Answer(503), None),
        (Answer(503, headers={"Retry-After": "70"}), 70),
        (Answer(408), None),
        (Answer(reset=True), None),
        (Answer(raw=b"\x00garbage\r\n\r\n"), None),
    ],
)
def test_what_passes_is_tried_again(name: str, stub: ProviderStub, answer: Answer, wait: float | None) -> None:
    stub.answers.append(answer)
    with pytest.raises(TemporaryDeliveryError) as caught:
        sent(name, stub)
    assert caught.value.retry_after == wait
    assert SECRET not in str(caught.value)
    assert len(stub.calls) == 1, "the outbox decides when to try again"


@each
def test_an_answer_that_does_not_come_is_tried_again(name: str, stub: ProviderStub) -> None:
    stub.answers.append(Answer(hold=threading.Event()))  # that nobody sets
    with pytest.raises(TemporaryDeliveryError, match="Timeout"):
        built(name, stub.url, timeout=1).send(make_message(), KINDS[name].settings(stub.url))


@each
def test_nobody_listening_is_tried_again(name: str) -> None:
    with ProviderStub() as gone:
        url = gone.url
    with pytest.raises(TemporaryDeliveryError, match="ConnectionError"):
        built(name, url).send(make_message(), KINDS[name].settings(url))


@each
@pytest.mark.parametrize("body", [b"<html>thanks</html>", b"[1]", b"", b"{" * 100_000])
def test_what_was_taken_is_not_sent_again_whatever_the_answer_says(name: str, stub: ProviderStub, body: bytes) -> None:
    stub.answers.append(Answer(KINDS[name].taken.status, body))
    sent(name, stub)


@each
def test_a_refusal_is_final_and_names_no_secret(name: str, stub: ProviderStub) -> None:
    stub.answers.append(KINDS[name].refused)
    with pytest.raises(PermanentDeliveryError) as caught:
        sent(name, stub)
    assert SECRET not in str(caught.value)
    assert "+14155550100" not in str(caught.value)


@each
def test_a_redirect_is_not_followed(name: str, stub: ProviderStub) -> None:
    stub.answers.append(Answer(302, headers={"Location": "/elsewhere"}))
    with pytest.raises(PermanentDeliveryError, match="HTTP 302"):
        sent(name, stub)
    assert len(stub.calls) == 1


@each
def test_without_a_place_to_send_to_it_is_final(name: str, stub: ProviderStub) -> None:
    with pytest.raises(PermanentDeliveryError, match=r"there is no|must both be set"):
        built(name, stub.url).send(make_message(), {})
    assert stub.calls == []


@each
def test_a_preview_shows_what_is_sent_and_no_secret(name: str, stub: ProviderStub) -> None:
    shown = json.dumps(built(name, stub.url).preview(make_message(), KINDS[name].settings(stub.url)))
    assert "ard testing attack" in shown
    assert SECRET not in shown
    assert "+14155550100" not in shown
    assert stub.calls == []


@pytest.mark.parametrize("name", ["teams", "webhook"])
def test_an_address_inside_is_not_asked(name: str, stub: ProviderStub) -> None:
    guarded = build_notifiers([name], {}, Site(PUBLIC))[name]
    settings = KINDS[name].settings(stub.url.replace("http://", "https://"))
    with pytest.raises(PermanentDeliveryError, match="private or local"):
        guarded.send(make_message(), settings)
    assert stub.calls == []


def test_a_document_is_signed_over_time_and_body_and_names_itself(stub: ProviderStub) -> None:
    sender = SignedWebhook(WebhookOptions(), insecure_webhooks=True, clock=lambda: 1_700_000_000.9)
    message = make_message()
    sender.send(message, KINDS["webhook"].settings(stub.url))
    (call,) = stub.calls
    expected = hmac.new(SECRET.encode(), b"1700000000." + call.body, hashlib.sha256).hexdigest()
    assert call.headers["X-Sentinel-Signature"] == f"t=1700000000,v1={expected}"
    assert call.headers["Idempotency-Key"] == message.notification_id
    assert call.json["alert"]["severity"] == "P1"
    assert call.json["facts"][0] == {"label": "Block rate", "value": "35.04 % (threshold 20 %)"}
    assert call.json["version"] == 1


def test_the_documented_check_takes_our_signature_and_no_other(stub: ProviderStub) -> None:
    page = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], found)  # the reader's own code
    built("webhook", stub.url).send(make_message(), KINDS["webhook"].settings(stub.url))
    (call,) = stub.calls
    header = call.headers["X-Sentinel-Signature"]
    assert found["verified"](call.body, header, SECRET, tolerance=3600)
    assert not found["verified"](call.body + b" ", header, SECRET, tolerance=3600)
    assert not found["verified"](call.body, header, SECRET, tolerance=-1)


def test_opsgenie_opens_raises_and_closes_one_alert(stub: ProviderStub) -> None:
    first = sent("opsgenie", stub)
    opened = stub.calls[0]
    assert (opened.method, opened.path) == ("POST", "/v2/alerts")
    assert opened.headers["Authorization"] == f"GenieKey {SECRET}"
    assert opened.json["alias"] == make_note().alert_id
    assert opened.json["priority"] == "P2"
    assert len(opened.json["message"]) <= 130

    sender, settings = built("opsgenie", stub.url), KINDS["opsgenie"].settings("")
    graver = make_message(make_note(reason=NotifyReason.ESCALATED, severity=Severity.P0))
    sender.send(graver, settings, first)
    priority, note = stub.calls[1:3]
    assert (priority.method, priority.json) == ("PUT", {"priority": "P1"})
    assert priority.path.startswith(f"/v2/alerts/{graver.alert_id}/priority?identifierType=alias")
    assert graver.title in note.json["note"]

    sender.send(make_message(ended_note()), settings, first)
    assert stub.calls[3].path.startswith(f"/v2/alerts/{graver.alert_id}/close?identifierType=alias")


def test_pagerduty_triggers_and_resolves_one_incident(stub: ProviderStub) -> None:
    stub.answers.append(KINDS["pagerduty"].taken)
    assert sent("pagerduty", stub).reference == "from-pagerduty"
    built("pagerduty", stub.url).send(make_message(ended_note()), {"routing_key": SECRET})
    triggered, resolved = (call.json for call in stub.calls)
    assert triggered["event_action"] == "trigger"
    assert triggered["payload"]["severity"] == "error"
    assert triggered["links"][0]["href"] == make_message().url
    assert resolved == {
        "routing_key": SECRET,
        "event_action": "resolve",
        "dedup_key": triggered["dedup_key"],
    }


def test_a_card_fits_and_reads_no_markup_from_outside() -> None:
    hostile = "[click](https://evil.example) **x** " * 20_000
    note = make_note(merchant_name="<b>[x](https://evil.example)</b>", metrics={f"m_{n}": 1.0 for n in range(500)})
    message = make_message(note)
    object.__setattr__(message, "text", hostile + "字" * 50_000)
    body = encoded(message)
    assert len(body) <= LONGEST
    card = json.loads(body)["attachments"][0]["content"]
    assert card["version"] == "1.4"
    facts = next(block for block in card["body"] if block["type"] == "FactSet")["facts"]
    assert facts[0]["value"] == r"\<b\>\[x\]\(https://evil.example\)\</b\>"
    assert {block["type"] for block in card["body"]} == {"RichTextBlock", "FactSet"}


def test_a_wait_may_be_a_date() -> None:
    until = (NOW + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert seconds_to_wait(until, NOW) == 90
    assert seconds_to_wait("soon") == 30
