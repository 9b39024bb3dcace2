"""Annotations on a Grafana dashboard: a region from the start of an attack to its end.

The installation's own channel: merchants neither choose it nor switch it off, for its readers are staff.
The annotation is found again by its id in the receipt of the message before, else by its tag `alert:<id>`, so that one
that was written just before a crash is not written twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from html import escape
from typing import Annotated, Any

import requests
from grafana_client import GrafanaApi
from grafana_client.client import GrafanaException, TokenAuth
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from webhook.domain.message import Message, one_line
from webhook.notifiers.deadline import deadline
from webhook.notifiers.outgoing import timed
from webhook.ports import PermanentDeliveryError, Receipt, TemporaryDeliveryError

_TAG_LENGTH = 100  # what Grafana's table of tags holds
_NOT_FOUND, _TOO_MANY, _SERVER_ERROR = 404, 429, 500
_PASSING = frozenset({408, 409, 425})
_CALLS = 3  # to find the annotation, to change it, and to write it anew where it is gone
_WAIT = 30.0  # seconds, where Grafana asks to wait and does not say how long


class AnnotatedPanel(BaseModel):
    """Without a `panel` the annotation shows on all panels of the dashboard."""

    model_config = ConfigDict(extra="forbid")

    uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = Field(description="The dashboard's.")
    panel: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Its id; without it the annotation shows on all panels."
    )


class GrafanaOptions(BaseModel):
    """`dashboards`: by alert type, and `default`; an alert without either is annotated for the whole organisation.

    `token`: of a service account that may write annotations. `timeout` in seconds.
    """

    model_config = ConfigDict(extra="forbid")

    url: HttpUrl = Field(description="Where Grafana is.")
    token: SecretStr = Field(description="Of a service account that may write annotations.")
    dashboards: dict[str, AnnotatedPanel] = Field(
        {}, description="By alert type, and `default`; without either for the whole organisation."
    )
    timeout: float = Field(default=10, gt=0, description="Seconds.")


class GrafanaAnnotations:
    channel_type = "grafana"
    parallel = 2

    def __init__(self, options: GrafanaOptions) -> None:
        self._dashboards = options.dashboards
        url, auth = f"{str(options.url).rstrip('/')}/", TokenAuth(options.token.get_secret_value())
        self._api: Any = GrafanaApi.from_url(url, credential=auth, timeout=options.timeout)
        self._api.client.s.hooks["response"].append(_heed)
        timed(self._api.client.s)
        self._longest = _CALLS * options.timeout

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],  # noqa: ARG002 - the port's signature
        before: Receipt | None = None,
    ) -> Receipt:
        """Write the annotation, or bring it up to date. The receipt's reference is its id."""
        with deadline(self._longest), _delivery_errors():
            known = before.reference if before is not None and before.reference else self._find(message)
            if known and self._update(known, message):
                return Receipt(known)
            return Receipt(self._create(message))

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing to add: the dashboard is the chart."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as above
        place = self._place(message)
        where = {"dashboardUID": place.uid, "panelId": place.panel} if place else {}
        times = {"time": _milliseconds(message.began_at), "timeEnd": _milliseconds(_until(message))}
        return {**where, **times, "tags": _tags(message), "text": _text(message)}

    def check(self) -> str:
        with deadline(self._longest), _delivery_errors():
            return f"organisation {_field(self._api.organization.get_current_organization(), 'name')}"

    def close(self) -> None:
        self._api.client.s.close()

    def _place(self, message: Message) -> AnnotatedPanel | None:
        return self._dashboards.get(message.alert_type) or self._dashboards.get("default")

    def _find(self, message: Message) -> str:
        place = self._place(message)
        found = self._api.annotations.get_annotation(
            dashboard_uid=place.uid if place else None, tags=[_own_tag(message)], limit=1
        )
        if not isinstance(found, list):
            raise TemporaryDeliveryError("Grafana: unexpected answer")
        return str(_field(found[0], "id")) if found else ""

    def _create(self, message: Message) -> str:
        place = self._place(message)
        answer = self._api.annotations.add_annotation(
            dashboard_uid=place.uid if place else None,
            panel_id=place.panel if place else None,
            time_from=_milliseconds(message.began_at),
            time_to=_milliseconds(_until(message)),
            tags=_tags(message),
            text=_text(message),
        )
        return str(_field(answer, "id"))

    def _update(self, annotation: str, message: Message) -> bool:
        """False where somebody deleted it."""
        try:
            self._api.annotations.partial_update_annotation(
                annotation,
                time_from=_milliseconds(message.began_at),
                time_to=_milliseconds(_until(message)),
                tags=_tags(message),
                text=_text(message),
            )
        except GrafanaException as error:
            if error.status_code == _NOT_FOUND:
                return False
            raise
        return True


def _until(message: Message) -> datetime:
    """The end, or how far the attack had come when this was decided."""
    return max(message.ended_at or message.created_at, message.began_at)


def _tags(message: Message) -> list[str]:
    own = ("sentinel", message.alert_type, message.severity.value, message.account_id)
    return [*(one_line(tag, _TAG_LENGTH) for tag in own), _own_tag(message)]


def _own_tag(message: Message) -> str:
    return f"alert:{message.alert_id}"


def _text(message: Message) -> str:
    """Grafana shows it as HTML."""
    told = "<br>".join(escape(line) for line in (message.title, *message.text.splitlines()))
    return f'{told}<br><a href="{escape(message.url)}">Alert in Sentinel</a>'


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _field(answer: object, name: str) -> object:
    if not isinstance(answer, dict) or name not in answer:
        raise TemporaryDeliveryError("Grafana: unexpected answer")
    return answer[name]


def _heed(response: requests.Response, *_: object, **__: object) -> None:
    """What its client overlooks: how long Grafana asks to wait, and that a redirect makes a GET of a POST."""
    if response.is_redirect:
        response.close()
        raise TemporaryDeliveryError(f"Grafana: HTTP {response.status_code}, it wants a login or has moved")
    if response.status_code == _TOO_MANY:
        response.close()
        asked = response.headers.get("Retry-After", "")
        wait = float(asked) if asked.isdigit() else _WAIT
        raise TemporaryDeliveryError(f"Grafana: too many requests, wait {wait:g} s", retry_after=wait)


@contextmanager
def _delivery_errors() -> Iterator[None]:
    """Every failure as a DeliveryError that says whether trying again can help. No answer is repeated in its words."""
    try:
        yield
    except GrafanaException as error:
        words = f"Grafana: HTTP {error.status_code}"
        if error.status_code >= _SERVER_ERROR or error.status_code in _PASSING:
            raise TemporaryDeliveryError(words) from None
        raise PermanentDeliveryError(words) from None
    except (OSError, ValueError) as error:
        raise TemporaryDeliveryError(f"Grafana: {type(error).__name__}") from None
