"""What people do to alerts."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import Field

from webhook.domain.alert import AlertStatus
from webhook.storage import queries
from webhook.web.answers import (
    Acknowledged,
    CommentEntry,
    CommentList,
    Dismissed,
    Resent,
    Resolved,
    Snoozed,
    comment_entry,
)
from webhook.web.api import Api, alert_routes, answer, one_page, seen
from webhook.web.api_parameters import (
    AcknowledgeBody,
    ActorBody,
    AlertPath,
    CommentBody,
    DismissBody,
    IfMatch,
    ListQuery,
    ResendBody,
    ResolveBody,
    SnoozeBody,
)
from webhook.web.openapi import problems
from webhook.web.parameters import cursor

ERRORS = problems(404, 409, 412, 413, 415)


class CommentAdded(CommentEntry):
    """A comment, and who is told of whom it names."""

    notified: list[str] = Field(description="Channels on which it is told; empty where it names nobody, too.")
    not_notified_reason: str = Field(description="Why nobody is told, though it names somebody; else empty.")


def actions_blueprint(api: Api) -> APIBlueprint:
    routes = alert_routes("actions", "Actions on alerts")
    _add_closing(routes, api)
    _add_attention(routes, api)
    _add_snooze(routes, api)
    _add_comments(routes, api)
    _add_resend(routes, api)
    return routes


def _add_closing(routes: APIBlueprint, api: Api) -> None:
    @routes.post("/alerts/<uuid:alert_id>/resolve", responses={200: Resolved, **ERRORS})
    def resolve(path: AlertPath, header: IfMatch, body: ResolveBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Resolve an alert. Whoever was told that it fired is told that it ended."""
        alert_id, doing = str(path.alert_id), api.doing(body.resolved_by, body.version)
        acted = api.actions.resolve(alert_id, body.resolution_note, doing)
        done = Resolved(
            alert_id=alert_id,
            status=AlertStatus.RESOLVED,
            resolved_at=doing.now,
            message="Alert marked as resolved",
            version=acted.version,
        )
        return answer(done, version=acted.version)

    @routes.post("/alerts/<uuid:alert_id>/dismiss", responses={200: Dismissed, **ERRORS})
    def dismiss(path: AlertPath, header: IfMatch, body: DismissBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Dismiss an alert as no attack. Nobody is told."""
        alert_id, doing = str(path.alert_id), api.doing(body.dismissed_by, body.version)
        reason, feedback = body.said
        acted = api.actions.dismiss(alert_id, reason, feedback, doing)
        done = Dismissed(
            alert_id=alert_id,
            status=AlertStatus.DISMISSED,
            dismissed_at=doing.now,
            message="Alert dismissed",
            version=acted.version,
        )
        return answer(done, version=acted.version)


def _add_attention(routes: APIBlueprint, api: Api) -> None:
    @routes.post("/alerts/<uuid:alert_id>/acknowledge", responses={200: Acknowledged, **ERRORS})
    def acknowledge(path: AlertPath, header: IfMatch, body: AcknowledgeBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Say that somebody is on it."""
        alert_id, doing = str(path.alert_id), api.doing(body.acknowledged_by, body.version)
        acted = api.actions.acknowledge(alert_id, body.note, doing)
        done = Acknowledged(
            alert_id=alert_id,
            acknowledged_at=doing.now,
            acknowledged_by=doing.actor,
            message="Alert acknowledged",
            version=acted.version,
        )
        return answer(done, version=acted.version)

    @routes.post("/alerts/<uuid:alert_id>/unacknowledge", responses={200: Acknowledged, **ERRORS})
    def unacknowledge(path: AlertPath, header: IfMatch, body: ActorBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Take an acknowledgement back."""
        alert_id = str(path.alert_id)
        acted = api.actions.unacknowledge(alert_id, api.doing(body.actor, body.version))
        done = Acknowledged(
            alert_id=alert_id,
            acknowledged_at=None,
            acknowledged_by=None,
            message="Alert no longer acknowledged",
            version=acted.version,
        )
        return answer(done, version=acted.version)


def _add_snooze(routes: APIBlueprint, api: Api) -> None:
    @routes.post("/alerts/<uuid:alert_id>/snooze", responses={200: Snoozed, **ERRORS})
    def snooze(path: AlertPath, header: IfMatch, body: SnoozeBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Hold an alert's messages back, those of a risen severity and of P0 excepted, for 30 days at most."""
        alert_id, doing = str(path.alert_id), api.doing(body.snoozed_by, body.version)
        until = body.end(doing.now)
        acted = api.actions.snooze(alert_id, until, doing)
        done = Snoozed(
            alert_id=alert_id,
            snoozed_until=until,
            snoozed_by=doing.actor,
            message="Alert snoozed",
            version=acted.version,
        )
        return answer(done, version=acted.version)

    @routes.post("/alerts/<uuid:alert_id>/unsnooze", responses={200: Snoozed, **ERRORS})
    def unsnooze(path: AlertPath, header: IfMatch, body: ActorBody) -> Response:  # noqa: ARG001 - read by `doing`
        """End a snooze."""
        alert_id = str(path.alert_id)
        acted = api.actions.unsnooze(alert_id, api.doing(body.actor, body.version))
        done = Snoozed(
            alert_id=alert_id,
            snoozed_until=None,
            snoozed_by=None,
            message="Alert no longer snoozed",
            version=acted.version,
        )
        return answer(done, version=acted.version)


def _add_comments(routes: APIBlueprint, api: Api) -> None:
    @routes.get("/alerts/<uuid:alert_id>/comments", responses={200: CommentList, **problems(404)})
    def comments(path: AlertPath, query: ListQuery) -> Response:
        """An alert's history, newest first: notes of people, and what the system did."""
        with api.database.read() as connection:
            record = seen(connection, path.alert_id)
            found = queries.comments_of(connection, record.id, query.limit + 1, query.cursor)
        shown, last = one_page(found, query.limit)
        following = last and cursor(last.created_at, last.id)
        data = [comment_entry(comment, record.id) for comment in shown]
        return answer(CommentList(data=data, next_cursor=following), version=record.version)

    @routes.post("/alerts/<uuid:alert_id>/comments", responses={201: CommentAdded, **ERRORS})
    def add_comment(path: AlertPath, header: IfMatch, body: CommentBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Write a note. Who is named after an @ is kept with it."""
        alert_id, doing = str(path.alert_id), api.doing(body.created_by, body.version)
        acted = api.actions.comment(alert_id, body.content, doing)
        with api.database.read() as connection:
            written = queries.comment_by_id(connection, acted.comment_id)
        told = {"notified": list(acted.channels), "not_notified_reason": acted.untold}
        added = CommentAdded(**comment_entry(written, alert_id).model_dump(), **told)
        return answer(added, HTTPStatus.CREATED, version=acted.version)


def _add_resend(routes: APIBlueprint, api: Api) -> None:
    @routes.post("/alerts/<uuid:alert_id>/resend-notification", responses={200: Resent, **ERRORS})
    def resend(path: AlertPath, header: IfMatch, body: ResendBody) -> Response:  # noqa: ARG001 - read by `doing`
        """Send an alert as it stands once more, whatever the limits."""
        alert_id = str(path.alert_id)
        acted = api.actions.resend(alert_id, body.channels, api.doing(body.requested_by, body.version))
        done = Resent(
            alert_id=alert_id,
            message="Notifications queued for resending",
            queued_channels=list(acted.channels),
            version=acted.version,
        )
        return answer(done, version=acted.version)
