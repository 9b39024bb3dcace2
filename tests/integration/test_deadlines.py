"""A call to a provider ends when its time is up, whatever the other side does; else these tests last for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from fakes_provider import ProviderStub
from notes import make_message
from servers import wait_for
from servers_http import Answer, api_server
from servers_smtp import STEPS, hanging_smtp

from webhook.notifiers import deadline as deadlines
from webhook.notifiers.deadline import cut_all_short, deadline
from webhook.notifiers.email import Email, EmailOptions
from webhook.notifiers.outgoing import guarded_session
from webhook.notifiers.posting import call
from webhook.notifiers.registry import Site, build_notifiers
from webhook.ports import Notifier, TemporaryDeliveryError

SECRET = "s3cr3t-0123456789abcdef0123456789"
SMS = {"account_sid": "AC0123456789", "auth_token": SECRET, "from_number": "+15005550006"}


def sent(name: str, url: str, *, timeout: float = 1) -> None:
    """To a provider at `url`, with all that it is set up with."""
    options: Mapping[str, dict[str, Any]] = {
        "slack": {"token": "xoxb-1", "channel": "C0FRAUD", "api_url": f"{url}/api/"},
        "opsgenie": {"api_url": url, "api_key": SECRET},
        "pagerduty": {"api_url": url, "routing_key": SECRET},
        "sms": {**SMS, "base_url": url, "phone_numbers": ["+14155550100"]},
        "grafana": {"url": url, "token": SECRET},
    }
    settings = {"webhook_url": f"{url}/{SECRET}", "secret": SECRET}
    channel, own = name.removesuffix(" webhook"), settings if name not in options else {}
    given = {channel: {**options.get(name, {}), "timeout": timeout}}
    notifier: Notifier = build_notifiers([channel], given, Site("https://x.example", insecure_webhooks=True))[channel]
    notifier.send(make_message(), own)


@pytest.mark.parametrize(
    ("name", "unsure", "blind"),
    [
        ("slack webhook", True, True),
        ("teams", True, True),
        ("webhook", True, False),
        ("slack", True, False),
        ("opsgenie", True, False),
        ("pagerduty", True, False),
        ("sms", True, False),
        ("grafana", False, False),
    ],
)
def test_an_answer_that_drips_holds_nobody_for_longer_than_the_call(name: str, *, unsure: bool, blind: bool) -> None:
    with hanging_smtp("greeting") as port, pytest.raises(TemporaryDeliveryError) as caught:  # not a line of HTTP either
        sent(name, f"http://127.0.0.1:{port}")
    assert (caught.value.unsure, caught.value.blind) == (unsure, blind)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["slack webhook", "teams", "webhook"])
def test_a_status_is_an_answer_though_its_headers_never_end(name: str) -> None:
    with api_server() as api:
        api.answer = lambda _: Answer(drip_headers=True)
        sent(name, api.url)
        assert len(api.requests) == 1


@pytest.mark.parametrize("name", ["slack webhook", "teams", "webhook", "slack", "opsgenie", "pagerduty", "sms"])
def test_where_nobody_listens_nothing_was_taken(name: str) -> None:
    with ProviderStub() as gone:
        url = gone.url
    with pytest.raises(TemporaryDeliveryError) as caught:
        sent(name, url)
    assert not caught.value.unsure


def test_a_name_server_that_hangs_is_not_waited_for() -> None:
    never = threading.Event()

    def lookup(_host: str, _port: int) -> list[str]:
        never.wait()
        return []

    with guarded_session(lookup) as session, pytest.raises(TemporaryDeliveryError, match="Timeout") as caught:
        call("webhook", session, "POST", "https://slow.example/", timeout=0.3)
    never.set()
    assert not caught.value.unsure


def test_a_connection_that_came_too_late_is_closed() -> None:
    with hanging_smtp("greeting") as port, deadline(60) as until:
        until.cut_short()
        connected = socket.create_connection(("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            until.note(connected)
        assert connected.fileno() == -1


def mail(port: int) -> Email:
    """Each step has more time than the whole."""
    given = {"host": "127.0.0.1", "port": port, "security": "none", "from_address": "a@x.example", "timeout": 30}
    return Email(EmailOptions.model_validate(given))


@pytest.mark.parametrize("step", STEPS)
def test_a_mail_server_that_hangs_at_a_step_is_left(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.notifiers.email.LONGEST_SEND", 30 if step == "QUIT" else 1.0)
    monkeypatch.setattr("webhook.notifiers.smtp._GOODBYE_S", 0.2)
    to = {"to": [f"person-{number}@shop.example" for number in range(20)]}
    with hanging_smtp(step) as port:
        if step == "QUIT":
            assert mail(port).send(make_message(), to).details["recipients"] == 20, "it was taken"
            return
        with pytest.raises(TemporaryDeliveryError, match="Timeout") as caught:
            mail(port).send(make_message(), to)
    assert caught.value.unsure == (step in ("DATA", "end of data"))


def test_a_worker_that_stops_breaks_its_calls_off() -> None:
    ended: list[str] = []

    def send() -> None:
        try:
            sent("webhook", f"http://127.0.0.1:{port}", timeout=30)
        except TemporaryDeliveryError as error:
            ended.append(str(error))

    with hanging_smtp("greeting") as port:
        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: deadlines._open, what="the call")
        cut_all_short()
        thread.join(60)
    assert len(ended) == 1
    assert not deadlines._open
