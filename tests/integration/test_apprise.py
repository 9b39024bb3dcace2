"""Other services through apprise: Discord, its address pointed at a stub."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from apprise.manager_plugins import NotificationManager
from apprise.plugins.discord import NotifyDiscord
from fakes_provider import Answer, ProviderStub
from notes import make_message

from webhook.notifiers.addresses import SCHEMAS
from webhook.notifiers.apprise import AppriseOptions, AppriseServices
from webhook.ports import PermanentDeliveryError, TemporaryDeliveryError

SECRET = "tokentokentokentokentokentokentokentokentokentokentokentokentoken123"
URL = f"discord://123456789012345678/{SECRET}?rto=1"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderStub]:
    with ProviderStub(usual=lambda _: Answer(204, b"")) as stub:
        monkeypatch.setattr(NotifyDiscord, "notify_url", f"{stub.url}/api/webhooks")
        monkeypatch.setattr(NotifyDiscord, "clock_skew", None, raising=False)
        yield stub


def send(url: str = URL) -> None:
    AppriseServices(AppriseOptions()).send(make_message(), {"url": url})


def test_a_service_gets_title_and_text(stub: ProviderStub) -> None:
    send()
    (call,) = stub.calls
    assert "Card testing attack: Northwind Books" in call.body.decode()
    assert "35.04 %" in call.body.decode()


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final_and_names_no_secret(
    stub: ProviderStub, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    stub.usual = lambda _: Answer(status, {"message": SECRET})
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(PermanentDeliveryError, match=f"Discord: HTTP {status}") as caught,
    ):
        send()
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, headers={"Retry-After": "7"}),
        Answer(500),
        Answer(503),
        Answer(reset=True),
        Answer(raw=b"what\r\n"),
        Answer(hold=threading.Event()),
    ],
)
def test_what_passes_is_tried_again(stub: ProviderStub, answer: Answer) -> None:
    stub.usual = lambda _: answer
    with pytest.raises(TemporaryDeliveryError) as caught:
        send()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/x",
        "xml://10.0.0.1/",
        "form://localhost/",
        "file:///etc/passwd",
        "syslog://",
        "dbus://",
        "windows://",
        "mailto://user:pass@example.com",
        "https://discord.com/api/webhooks/1/x",
        "discord://",
        "discord://only-one-part",
        "DISCORD",
    ],
)
def test_what_could_reach_anywhere_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(PermanentDeliveryError, match="apprise: the url") as caught:
        send(url)
    assert "pass@" not in str(caught.value)


def test_no_service_that_is_allowed_takes_a_host() -> None:
    plugins = NotificationManager()
    for schema in SCHEMAS:
        templates = plugins[schema].templates
        assert templates, schema
        assert not any("{host}" in template or "{hostname}" in template for template in templates), schema
