"""Answers that are given again. They are written with the changes they tell of, so neither is there without the other.

Of two equal requests at once one commits; the other meets its row, starts over and finds the answer.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.domain.ledger import Changes
from webhook.ports import AlreadyAnswered, Answer, RepeatableRequest
from webhook.storage.tables import handled_request

KEPT = timedelta(hours=24)


def look_up(connection: sa.Connection, request: RepeatableRequest, now: datetime) -> None:
    """Raise AlreadyAnswered when this request, or another one under its name, was handled within a day."""
    h = handled_request.c
    ours = sa.and_(h.credential == request.credential, h.request_id == request.request_id)
    query = sa.select(h.status, h.answer, h.route, h.body_hash, h.created_at).where(ours)
    found = connection.execute(query).first()
    if found is not None and found.created_at < now - KEPT:  # nothing has swept since then
        connection.execute(sa.delete(handled_request).where(ours))
    elif found is not None:
        same = (found.route, found.body_hash) == (request.route, request.body_hash)
        raise AlreadyAnswered(Answer(found.status, found.answer), same=same)


def keep_answer(connection: sa.Connection, request: RepeatableRequest, changes: Changes, now: datetime) -> None:
    answer = request.answer(changes)
    connection.execute(
        sa.insert(handled_request).values(
            credential=request.credential,
            request_id=request.request_id,
            route=request.route,
            body_hash=request.body_hash,
            status=answer.status,
            answer=dict(answer.body),
            created_at=now,
        )
    )
