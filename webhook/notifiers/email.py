"""E-mail by SMTP: text and HTML, the messages about one alert as one thread. The chart is a link: no second mail.

All recipients share one mail. Those that the server refuses while it takes others are told in the receipt and not
tried again, for the others would get it twice. 4xx is temporary; 5xx, a refused login and missing TLS are permanent.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Annotated, Any, Literal

from jinja2 import Environment
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from webhook.domain.alert import NotifyReason
from webhook.domain.message import SEVERITY_WORDS, Message, one_line
from webhook.notifiers.addresses import email_address
from webhook.notifiers.deadline import LONGEST_SEND, current, deadline
from webhook.notifiers.posting import provider_words
from webhook.notifiers.smtp import Smtp, connect
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, TemporaryDeliveryError

_SUBJECT = 200
_THREAD = 20
"""Earlier messages of a thread that are named; more would not fit a header."""

_PERMANENT = 500
_COLOURS = {"P0": "#b00020", "P1": "#c62828", "P2": "#e65100", "P3": "#1565c0"}

Address = Annotated[str, Field(max_length=320), AfterValidator(email_address)]


class EmailOptions(BaseModel):
    """`to`: who is told for merchants without addresses of their own. `timeout`: of each step, in seconds.

    `security`: `starttls` and `tls` check the server's certificate, with `ca_file` where it is not a public one's.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = Field(description="The SMTP server.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(587, description="587 for STARTTLS, 465 for TLS.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="Both but `none` check the server's certificate."
    )
    ca_file: str | None = Field(None, description="Authorities, where the certificate is not a public one's (PEM).")
    username: str | None = Field(None, description="Who logs in; without it nobody does.")
    password: SecretStr | None = Field(None, description="The user's password.")
    from_address: Address = Field(description="Who writes.")
    from_name: Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] = Field(
        "Sentinel", description="The name shown beside it."
    )
    to: list[Address] = Field([], description="Who is told for merchants without addresses of their own.")
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds of each step.")

    @model_validator(mode="after")
    def _whole(self) -> EmailOptions:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.username is not None and self.security == "none":
            raise ValueError("a password is not sent without TLS: set security to starttls or tls")
        return self


class Email:
    channel_type = "email"
    parallel = 2

    def __init__(self, options: EmailOptions) -> None:
        self._options = options
        self._password = options.password.get_secret_value() if options.password else ""

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:
        """The receipt's reference is the Message-ID; its details hold those of the thread before it."""
        to = self._to(settings)
        if not to:
            raise PermanentDeliveryError("e-mail: there is no address")
        thread = _thread(before)
        mail = self._mail(message, to, thread)
        with deadline(LONGEST_SEND), self._connected() as server:
            refused = server.send_message(mail, self._options.from_address, list(to))
        details: dict[str, Any] = {"thread": thread, "recipients": len(to) - len(refused)}
        if refused:
            details["refused"] = [code for code, _ in refused.values()]
        return Receipt(mail["Message-ID"], details)

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: a second mail for a picture is one too many. The mail has a link to it."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        mail = self._mail(message, self._to(settings), [])
        text, html = (part.get_content() for part in mail.iter_parts())
        return {"from": mail["From"], "to": self._to(settings), "subject": mail["Subject"], "text": text, "html": html}

    def check(self) -> str:
        with deadline(LONGEST_SEND), self._connected() as server:
            server.noop()
        o = self._options
        return f"{o.host}:{o.port} takes mail" + (f" from {o.username}" if o.username else "")

    def _to(self, settings: Mapping[str, Any]) -> Sequence[str]:
        return list(dict.fromkeys(settings.get("to") or self._options.to))

    def _mail(self, message: Message, to: Sequence[str], thread: Sequence[str]) -> EmailMessage:
        mail = EmailMessage(policy=SMTP_POLICY)
        local, _, domain = self._options.from_address.rpartition("@")
        mail["Subject"] = subject(message)
        mail["From"] = _sender(self._options.from_name, local, domain)
        mail["To"] = ", ".join(to)
        mail["Date"] = format_datetime(message.created_at)
        mail["Message-ID"] = f"<{message.notification_id}@{domain}>"
        if thread:
            mail["In-Reply-To"] = thread[-1]
            mail["References"] = " ".join(thread)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Sentinel-Alert"] = message.alert_id
        mail.set_content(plain_text(message))
        mail.add_alternative(html_text(message), subtype="html")
        return mail

    @contextmanager
    def _connected(self) -> Iterator[Smtp]:
        """A server that has let us in. Every failure is a DeliveryError."""
        o = self._options
        context = ssl.create_default_context(cafile=o.ca_file) if o.security != "none" else None
        server: Smtp | None = None
        try:
            with _delivery_errors(self._password):
                server = connect(o.host, o.port, timeout=o.timeout, tls=context if o.security == "tls" else None)
                if o.security == "starttls":
                    server.starttls(context=context)
                if o.username is not None:
                    server.login(o.username, self._password)
                yield server
            server.leave()
        except DeliveryError as error:
            unsure, until = server is not None and server.handed_over, current()
            if until is not None and until.passed:  # whatever was read of a line that was cut off
                raise TemporaryDeliveryError("e-mail: Timeout", unsure=unsure, blind=unsure) from None
            if isinstance(error, TemporaryDeliveryError):
                error.unsure = error.blind = unsure
            raise
        finally:
            if server is not None:
                server.close()


def _sender(name: str, local: str, domain: str) -> Any:  # noqa: ANN401 - a header's value
    from email.headerregistry import Address as HeaderAddress  # noqa: PLC0415 - the name is taken by the model's

    return HeaderAddress(name, local, domain)


def _thread(before: Receipt | None) -> list[str]:
    """Message-IDs about the same alert, oldest first."""
    if before is None or not before.reference:
        return []
    earlier = before.details.get("thread")
    return [*(map(str, earlier) if isinstance(earlier, list) else ()), before.reference][-_THREAD:]


@contextmanager
def _delivery_errors(password: str) -> Iterator[None]:
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        raise _by_code(min(code for code, _ in error.recipients.values()), "all recipients were refused") from None
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentDeliveryError(f"e-mail: {provider_words(error, password)}") from None
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        # Of a login nothing is repeated: some servers say what they were given.
        words = "the login was refused" if isinstance(error, smtplib.SMTPAuthenticationError) else said
        raise _by_code(error.smtp_code, provider_words(words, password)) from None
    except (smtplib.SMTPException, OSError) as error:
        raise TemporaryDeliveryError(f"e-mail: {type(error).__name__}") from None


def _by_code(code: int, words: str) -> DeliveryError:
    kind = PermanentDeliveryError if code >= _PERMANENT else TemporaryDeliveryError
    return kind(f"e-mail: {code} {words}")


def subject(message: Message) -> str:
    state = "Ended" if message.reason is NotifyReason.RESOLVED else str(message.severity)
    return one_line(f"[{state}] {message.title}", _SUBJECT)


def plain_text(message: Message) -> str:
    ended = message.reason is NotifyReason.RESOLVED
    head = f"{message.severity} {'Ended' if ended else SEVERITY_WORDS[message.severity]}: {message.title}"
    facts = (f"{label}: {value}" for label, value in (("Merchant", message.merchant), *message.facts))
    action = f"What to do: {message.suggested_action}"
    links = f"Details: {message.url}\nChart: {message.chart_url}"
    return "\n\n".join((head, "\n".join(facts), message.text, action, links)) + "\n"


_HTML = Environment(autoescape=True).from_string("""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ m.title }}</title></head>
<body style="font: 15px/1.5 sans-serif; color: #222; max-width: 40em">
<p style="color: {{ colour }}; font-weight: bold; margin: 0">{{ m.severity }} {{ state }}</p>
<h1 style="font-size: 20px; margin: .2em 0 .8em">{{ m.title }}</h1>
<table style="border-collapse: collapse">
{% for label, value in facts %}<tr><td style="padding: 2px 16px 2px 0; color: #666">{{ label }}</td>
<td>{{ value }}</td></tr>
{% endfor %}</table>
{% for line in m.text.splitlines() if line.strip() %}<p>{{ line }}</p>
{% endfor %}<p><b>What to do:</b> {{ m.suggested_action }}</p>
<p><a href="{{ m.url }}">View the alert</a> &middot; <a href="{{ m.chart_url }}">Chart</a></p>
</body></html>
""")


def html_text(message: Message) -> str:
    ended = message.reason is NotifyReason.RESOLVED
    return _HTML.render(
        m=message,
        facts=[("Merchant", message.merchant), *message.facts],
        state="Ended" if ended else SEVERITY_WORDS[message.severity],
        colour="#2e7d32" if ended else _COLOURS[message.severity],
    )
