"""E-mail against a real SMTP server."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from fakes_provider import Answer, ProviderStub
from notes import ended_note, make_message, make_note
from pydantic import ValidationError

from webhook.notifiers.email import Email, EmailOptions
from webhook.ports import PermanentDeliveryError, Receipt, TemporaryDeliveryError

PASSWORD = "an-smtp-password-for-tests"
TO = {"to": ["ana@shop.example", "bo@shop.example"]}


@dataclass
class Post:
    """What a server does: `says` answers DATA, `rcpt` each recipient by its name."""

    mails: list[tuple[Envelope, EmailMessage]] = field(default_factory=list)
    says: str = "250 OK"
    rcpt: dict[str, str] = field(default_factory=dict)
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _s: Session, envelope: Envelope, address: str, _o: list[str]
    ) -> str:
        said = self.rcpt.get(address, "250 OK")
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        if self.says.startswith("250"):
            assert isinstance(envelope.content, bytes)
            parsed = message_from_bytes(envelope.content, policy=default)
            assert isinstance(parsed, EmailMessage)
            self.mails.append((envelope, parsed))
        return self.says

    def mail(self) -> EmailMessage:
        return self.mails[-1][1]


class OnAnyPort(Controller):
    """On a free port, with patience for a busy machine."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        with socket.create_connection((self.hostname, self.port), 60):
            self._factory_invoked.wait(60)


@contextmanager
def serving(**options: Any) -> Iterator[Post]:
    post = Post()
    controller = OnAnyPort(post, hostname="127.0.0.1", port=0, ready_timeout=60, **options)
    controller.start()
    post.port = controller.port
    try:
        yield post
    finally:
        controller.stop()


@pytest.fixture
def post() -> Iterator[Post]:
    with serving() as post:
        yield post


def email(port: int, **options: Any) -> Email:
    given = {"host": "127.0.0.1", "port": port, "security": "none", "from_address": "alerts@sentinel.example"}
    return Email(EmailOptions.model_validate(given | options))


def test_a_mail_has_text_and_html_and_goes_to_all_in_one(post: Post) -> None:
    receipt = email(post.port).send(make_message(), TO)
    envelope, mail = post.mails[0]
    assert envelope.rcpt_tos == TO["to"]
    assert mail["Subject"] == "[P1] Card testing attack: Northwind Books"
    assert mail["From"] == "Sentinel <alerts@sentinel.example>"
    assert mail["Message-ID"] == receipt.reference == f"<{make_note().notification_id}@sentinel.example>"
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "Block rate: 35.04 % (threshold 20 %)" in text
    assert "<td>35.04 % (threshold 20 %)</td>" in html
    assert f'href="{make_message().url}"' in html
    assert receipt.details == {"thread": [], "recipients": 2}


def test_mails_about_one_alert_are_one_thread(post: Post) -> None:
    sender = email(post.port)
    first = sender.send(make_message(), TO)
    second = sender.send(make_message(make_note(notification_id="33333333-3333-4333-8333-333333333333")), TO, first)
    stored = json.loads(json.dumps({"reference": second.reference, **second.details}))  # as the outbox keeps it
    before = Receipt(stored.pop("reference"), stored)
    sender.send(make_message(ended_note()), TO, before)
    assert post.mail()["In-Reply-To"] == second.reference
    assert post.mail()["References"] == f"{first.reference} {second.reference}"
    assert post.mail()["Subject"].startswith("[Ended] ")


def test_names_from_outside_are_text_in_html_and_end_no_header(post: Post) -> None:
    name = "<script>alert(1)</script>\r\nBcc: evil@evil.example"
    email(post.port).send(make_message(make_note(merchant_name=name)), TO)
    assert post.mail()["Bcc"] is None
    html = post.mail().get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ("451 try later", TemporaryDeliveryError),
        ("421 closing", TemporaryDeliveryError),
        ("550 no such user", PermanentDeliveryError),
        ("552 too big", PermanentDeliveryError),
    ],
)
def test_what_the_server_says_decides(post: Post, says: str, kind: type[Exception]) -> None:
    post.says = says
    with pytest.raises(kind, match=says[:3]):
        email(post.port).send(make_message(), TO)


@pytest.mark.parametrize(("says", "kind"), [("450 grey", TemporaryDeliveryError), ("550 no", PermanentDeliveryError)])
def test_when_all_recipients_are_refused(post: Post, says: str, kind: type[Exception]) -> None:
    post.rcpt = dict.fromkeys(TO["to"], says)
    with pytest.raises(kind, match="all recipients were refused") as caught:
        email(post.port).send(make_message(), TO)
    assert "ana@" not in str(caught.value)


def test_one_refused_recipient_is_told_and_the_other_has_it(post: Post) -> None:
    post.rcpt = {"bo@shop.example": "550 unknown"}
    receipt = email(post.port).send(make_message(), TO)
    assert post.mails[0][0].rcpt_tos == ["ana@shop.example"]
    assert receipt.details == {"thread": [], "recipients": 1, "refused": [550]}


@pytest.mark.parametrize(
    "answer", [Answer(hold=threading.Event()), Answer(reset=True), Answer(raw=b"\xff\x00 what\r\n")]
)
def test_what_is_no_smtp_server_is_tried_again(answer: Answer) -> None:
    """A web server speaks when spoken to, so that SMTP waits for its greeting until its patience ends."""
    with ProviderStub(usual=lambda _: answer) as stub, pytest.raises(TemporaryDeliveryError):
        email(int(stub.url.rsplit(":", 1)[1]), timeout=0.5).send(make_message(), TO)


def test_nobody_listening_is_tried_again() -> None:
    with serving() as gone:
        port = gone.port
    with pytest.raises(TemporaryDeliveryError, match="ConnectionRefusedError"):
        email(port).send(make_message(), TO)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path: Path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def authenticator(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


def test_starttls_and_login(certificates: tuple[ssl.SSLContext, str]) -> None:
    context, authority = certificates
    given = {"security": "starttls", "ca_file": authority, "username": "sentinel"}
    with serving(tls_context=context, require_starttls=True, authenticator=authenticator) as post:
        sender = email(post.port, **given, password=PASSWORD)
        sender.send(make_message(), TO)
        assert len(post.mails) == 1
        assert sender.check() == f"127.0.0.1:{post.port} takes mail from sentinel"
        with pytest.raises(PermanentDeliveryError, match="535 the login was refused") as caught:
            email(post.port, **given, password="wrong-password").send(make_message(), TO)
        assert "wrong-password" not in str(caught.value)


def test_a_server_without_tls_gets_no_password(post: Post, certificates: tuple[ssl.SSLContext, str]) -> None:
    sender = email(post.port, security="starttls", username="sentinel", password=PASSWORD)
    with pytest.raises(PermanentDeliveryError, match="STARTTLS"):
        sender.send(make_message(), TO)
    with pytest.raises(ValidationError, match="not sent without TLS"):
        email(post.port, security="none", username="sentinel", password=PASSWORD)


def test_a_preview_needs_no_server_and_no_address_is_final() -> None:
    sender = email(9)
    shown = sender.preview(make_message(), TO)
    assert shown["to"] == TO["to"]
    assert "Card testing attack" in shown["text"]
    with pytest.raises(PermanentDeliveryError, match="no address"):
        sender.send(make_message(), {})
