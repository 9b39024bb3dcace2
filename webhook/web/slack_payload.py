"""What Slack sends when somebody presses a button or sends a form, as far as it is used; the rest is passed over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from webhook.domain.action import DismissReason
from webhook.domain.message import printable
from webhook.domain.severity import Severity
from webhook.notifiers.slack_blocks import (
    ACKNOWLEDGE,
    DISMISS,
    DISMISSAL,
    FEEDBACK,
    LONGEST_FEEDBACK,
    REASON,
    SNOOZE,
    SNOOZES,
)

Id = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,32}$")]
Ts = Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,32}$")]

_NAME_LENGTH = 80


class BadPayload(ValueError):  # noqa: N818 - an answer to the sender
    """Not what Slack documents, or not what was asked of it."""


@dataclass(frozen=True, slots=True)
class Person:
    """`actor` is what the alert's history says; `credential` the id, which Slack vouches for."""

    id: str
    name: str

    @property
    def actor(self) -> str:
        return f"slack:{self.id} ({self.name})" if self.name else f"slack:{self.id}"

    @property
    def credential(self) -> str:
        return f"slack:{self.id}"


@dataclass(frozen=True, slots=True)
class Pressed:
    """One thing that somebody asks for, on the alert and the severity that they have seen, and where.

    `action` is one of slack_blocks' ids. `minutes` of a snooze; `reason` and `feedback` of a form that was sent.
    `response_url` and `trigger_id` are empty where Slack gives none.
    """

    action: str
    alert_id: str
    severity: Severity
    channel: str
    ts: str
    by: Person
    minutes: int = 0
    reason: DismissReason = DismissReason.OTHER
    feedback: str = ""
    response_url: str = ""
    trigger_id: str = ""

    @property
    def place(self) -> str:
        """What the form brings back."""
        return json.dumps([self.alert_id, self.severity.value, self.channel, self.ts])


class _User(BaseModel):
    id: Id
    username: str = ""
    name: str = ""


class _Option(BaseModel):
    value: Annotated[str, Field(max_length=75)]


class _Action(BaseModel):
    action_id: str
    value: str = ""
    selected_option: _Option | None = None


class _Place(BaseModel):
    id: Id


class _Container(BaseModel):
    message_ts: Ts


class _Buttons(BaseModel):
    user: _User
    channel: _Place
    container: _Container
    actions: Annotated[list[_Action], Field(max_length=10)]
    response_url: Annotated[str, Field(max_length=2048)] = ""
    trigger_id: Annotated[str, Field(max_length=255)] = ""


class _State(BaseModel):
    values: dict[str, dict[str, Any]]


class _View(BaseModel):
    callback_id: str
    private_metadata: Annotated[str, Field(max_length=3000)]
    state: _State


class _Form(BaseModel):
    user: _User
    view: _View


def pressed(payload: object) -> list[Pressed]:
    """What somebody asks for; nothing for what only Slack itself acts on. Raise BadPayload."""
    if not isinstance(payload, dict):
        raise BadPayload("the payload is no object")
    try:
        if payload.get("type") == "block_actions":
            return _of_buttons(_Buttons.model_validate(payload))
        if payload.get("type") == "view_submission":
            form = _Form.model_validate(payload)
            return [_of_form(form)] if form.view.callback_id == DISMISSAL else []
    except ValidationError as error:
        places = {".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)}
        raise BadPayload(f"the payload is not as Slack documents it: {', '.join(sorted(places))}") from None
    except (KeyError, TypeError, ValueError):
        raise BadPayload("the payload names no alert of ours") from None
    return []


def _of_buttons(sent: _Buttons) -> list[Pressed]:
    found = []
    for action in sent.actions:
        if action.action_id not in (ACKNOWLEDGE, DISMISS, SNOOZE):
            continue
        chosen = action.selected_option.value if action.selected_option else action.value
        alert_id, severity, *minutes = chosen.split("/")
        found.append(
            Pressed(
                action=action.action_id,
                alert_id=str(UUID(alert_id)),
                severity=Severity(severity),
                channel=sent.channel.id,
                ts=sent.container.message_ts,
                by=_person(sent.user),
                minutes=_minutes(minutes) if action.action_id == SNOOZE else 0,
                response_url=sent.response_url,
                trigger_id=sent.trigger_id,
            )
        )
    return found


def _minutes(given: list[str]) -> int:
    minutes = int(given[0]) if given else 0
    if minutes not in SNOOZES:
        raise BadPayload("no such snooze")
    return minutes


def _of_form(sent: _Form) -> Pressed:
    alert_id, severity, channel, ts = json.loads(sent.view.private_metadata)
    values = sent.view.state.values
    feedback = values.get(FEEDBACK, {}).get(FEEDBACK, {}).get("value") or ""
    return Pressed(
        action=DISMISSAL,
        alert_id=str(UUID(alert_id)),
        severity=Severity(severity),
        channel=str(channel),
        ts=str(ts),
        by=_person(sent.user),
        reason=DismissReason(values[REASON][REASON]["selected_option"]["value"]),
        feedback=str(feedback).replace("\x00", "").strip()[:LONGEST_FEEDBACK],
    )


def _person(user: _User) -> Person:
    name = " ".join(printable(user.name or user.username).split())
    return Person(user.id, name[:_NAME_LENGTH])
