"""What was received, what was sent, what was given up, and figures of it all."""

from __future__ import annotations

from datetime import timedelta

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from werkzeug.exceptions import NotFound

from webhook.domain.alert import NotificationStatus
from webhook.domain.session import IllegalChange
from webhook.storage import queries
from webhook.storage.dead_letters import WORDS
from webhook.storage.records import NotificationFilter
from webhook.storage.statistics import Interval, Period, PeriodStatistics, period_statistics
from webhook.storage.trigger_search import list_triggers
from webhook.web.access import principal
from webhook.web.answers import (
    Bucket,
    LettersChanged,
    LettersSkipped,
    MerchantFigure,
    NotificationList,
    StatisticsAnswer,
    TriggerList,
    notification_entry,
    trigger_entry,
)
from webhook.web.api import Api, answer, one_page
from webhook.web.api_parameters import (
    LONGEST_PERIOD,
    LetterBody,
    LetterQuery,
    ListQuery,
    NotificationPath,
    NotificationQuery,
    StatisticsQuery,
    TriggerQuery,
)
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import cursor

HOURLY = timedelta(days=3)


def log_blueprint(api: Api) -> APIBlueprint:
    routes = blueprint("log", "Triggers, messages, figures")

    @routes.get("/triggers", responses={200: TriggerList})
    def triggers(query: TriggerQuery) -> Response:
        """Every alert that was received and what became of it, newest first."""
        with api.database.read() as connection:
            found = list_triggers(connection, query.wanted(principal().accounts), query.limit)
        following = None if found.next is None else cursor(*found.next)
        return answer(TriggerList(data=[trigger_entry(record) for record in found.records], next_cursor=following))

    @routes.get("/notifications", responses={200: NotificationList})
    def notifications(query: NotificationQuery) -> Response:
        """Messages of all alerts, newest first."""
        return answer(_notifications(api, query.wanted(principal().accounts, query.status), query))

    @routes.get("/statistics", responses={200: StatisticsAnswer})
    def statistics(query: StatisticsQuery) -> Response:
        """Figures over a period, and what is active now."""
        period = _period(query, api)
        with api.database.read() as connection:
            found = period_statistics(connection, period)
        return answer(_statistics(period, found))

    return routes


def letters_blueprint(api: Api) -> APIBlueprint:
    """Dead letters: messages that were given up."""
    routes = blueprint("letters", "Dead letters")

    @routes.get("/dead-letters", responses={200: NotificationList})
    def dead(query: LetterQuery) -> Response:
        """Messages that were given up, newest first."""
        wanted = query.wanted(principal().accounts, NotificationStatus.FAILED)
        return answer(_notifications(api, wanted, query))

    _add_replay(routes, api)
    _add_discard(routes, api)
    return routes


def _add_replay(routes: APIBlueprint, api: Api) -> None:
    errors = problems(404, 413, 415)

    @routes.post("/dead-letters/replay", responses={200: LettersChanged, **errors})
    def replay(body: LetterBody) -> Response:
        """Send all that match once more, with what their merchants have set now.

        Those of alerts that have ended stay, but for the word that they ended; `skipped` says which and why.
        """
        wanted = body.wanted(principal().accounts, NotificationStatus.FAILED)
        done = api.letters.replay(wanted, api.doing(None))
        skipped = [LettersSkipped(reason=why, count=done.skipped[why], message=WORDS[why]) for why in done.skipped]
        return answer(LettersChanged(count=done.count, message="Queued", skipped=skipped))

    @routes.post("/dead-letters/<uuid:notification_id>/replay", responses={200: LettersChanged, **problems(404, 409)})
    def replay_one(path: NotificationPath) -> Response:
        """Send one once more, with what its merchant has set now; 409 says why it has to stay."""
        wanted = NotificationFilter(accounts=principal().accounts)
        done = api.letters.replay(wanted, api.doing(None), str(path.notification_id))
        for why in done.skipped:
            raise IllegalChange(WORDS[why])
        if not done.count:
            raise NotFound("There is no such dead letter.")
        return answer(LettersChanged(count=1, message="Queued"))


def _add_discard(routes: APIBlueprint, api: Api) -> None:
    errors = problems(404, 413, 415)

    @routes.post("/dead-letters/discard", responses={200: LettersChanged, **errors})
    def discard(body: LetterBody) -> Response:
        """Delete all that match."""
        wanted = body.wanted(principal().accounts, NotificationStatus.FAILED)
        count = api.letters.discard(wanted, api.doing(None))
        return answer(LettersChanged(count=count, message="Discarded"))

    @routes.delete("/dead-letters/<uuid:notification_id>", responses={200: LettersChanged, **problems(404)})
    def discard_one(path: NotificationPath) -> Response:
        """Delete one."""
        wanted = NotificationFilter(accounts=principal().accounts)
        if not api.letters.discard(wanted, api.doing(None), str(path.notification_id)):
            raise NotFound("There is no such dead letter.")
        return answer(LettersChanged(count=1, message="Discarded"))


def _notifications(api: Api, wanted: NotificationFilter, query: ListQuery) -> NotificationList:
    with api.database.read() as connection:
        found = queries.list_notifications(connection, wanted, query.limit + 1, query.cursor)
    shown, last = one_page(found, query.limit)
    following = last and cursor(last.created_at, last.id)
    return NotificationList(data=[notification_entry(sent) for sent in shown], next_cursor=following)


def _statistics(period: Period, found: PeriodStatistics) -> StatisticsAnswer:
    return StatisticsAnswer(
        from_date=period.since,
        to_date=period.until,
        interval=period.interval.value,
        active_by_severity={severity.value: count for severity, count in found.active.items()},
        opened=sum(found.opened.values()),
        resolved=sum(found.resolved.values()),
        series=[Bucket(start=at, opened=count, resolved=found.resolved[at]) for at, count in found.opened.items()],
        by_type=dict(found.by_type),
        top_merchants=[MerchantFigure(merchant_id=a, merchant_name=b, alerts=c) for a, b, c in found.merchants],
        trigger_outcomes={outcome.value: count for outcome, count in found.outcomes.items()},
        notifications_by_status={status.lower(): count for status, count in found.notifications.items()},
        median_seconds_to_acknowledge=found.seconds_to_acknowledge,
        median_seconds_to_resolve=found.seconds_to_resolve,
    )


def _period(query: StatisticsQuery, api: Api) -> Period:
    until = query.to_date or api.clock()
    since = max(query.from_date or until - timedelta(hours=24), until - LONGEST_PERIOD)
    interval = query.interval or (Interval.HOUR if until - since <= HOURLY else Interval.DAY)
    mine, asked = principal().accounts, query.merchant_id
    if asked:
        mine = frozenset({asked}) if mine is None else mine & {asked}
    return Period(min(since, until), until, interval, mine)
