"""The pages as a browser without script gets them: what they tell, and closing an alert."""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from page_reading import Elements, page, shown, token_in
from page_rows import HOSTILE, LONG, NOW

from webhook.domain.action import Doing
from webhook.storage.acting import Acted, AlertActions
from webhook.storage.database import Database
from webhook.storage.tables import alert_dynamic, alert_trigger_log

# ---- the list ------------------------------------------------------------------------------------


def test_an_empty_store_says_what_to_expect(client: FlaskClient) -> None:
    text = shown(page(client, "/alerts"))
    assert "No alerts yet" in text
    assert "triggers" in text


def test_the_list_shows_each_alert_at_a_glance(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    rows.insert_trigger(database, alert_id, verdict=rows.verdict_of(rows.METRICS, {"block_rate": 0.3}))
    text = page(client, "/alerts")
    assert f'href="/alerts/{alert_id}"' in text
    for said in ("P1 Critical", "Active", "Card testing", "Nordlicht Elektronik", "acc_017", "12 triggers",
                 "for 12 min", "Block rate 35.0 % > 30 %", "Failed authorisations 61.0 % > 50 %"):  # fmt: skip
        assert said in shown(text)
    assert "<title>(1) Fraud alerts" in text


def test_the_head_counts_active_by_severity_resolved_and_suppressed(client: FlaskClient, database: Database) -> None:
    rows.seed(database)
    text = shown(page(client, "/alerts"))
    assert "3 active" in text
    assert "1 resolved today" in text
    assert "3 suppressed today 2 merchants" in text


def test_what_is_suppressed_is_counted_once_in_a_few_seconds_and_alerts_always(
    client: FlaskClient, database: Database, clock: rows.Clock
) -> None:
    rows.seed(database)
    page(client, "/alerts")
    rows.insert_trigger(database, outcome="suppressed", at=rows.NOW - timedelta(minutes=1))
    rows.insert_alert(database, at=rows.NOW - timedelta(minutes=1))
    text = shown(page(client, "/alerts"))
    assert "4 active" in text
    assert "3 suppressed today" in text
    clock.now += timedelta(seconds=5)
    assert "4 suppressed today" in shown(page(client, "/alerts"))


def test_filters_work_without_script_and_are_kept_while_paging(client: FlaskClient, database: Database) -> None:
    rows.seed(database)
    text = page(client, "/alerts?type=BLOCK_SURGE&status=RESOLVED")
    assert "1\N{EN DASH}20 of 22" in shown(text)
    following = re.search(r'rel="next" href="([^"]+)"', text)
    assert following
    second = page(client, html.unescape(following[1]))
    assert "21\N{EN DASH}22 of 22" in shown(second)
    assert re.search(r'<option value="BLOCK_SURGE" selected>', second)


def test_a_page_beyond_the_last_is_the_last(client: FlaskClient, database: Database) -> None:
    rows.seed(database)
    assert "21\N{EN DASH}27 of 27" in shown(page(client, "/alerts?page=99"))


def test_no_match_points_to_the_triggers(client: FlaskClient, database: Database) -> None:
    rows.insert_alert(database)
    text = page(client, "/alerts?q=acc_029")
    assert "No alert matches" in text
    assert 'href="/triggers?account=acc_029"' in text


# ---- one alert -----------------------------------------------------------------------------------


def test_the_detail_tells_the_whole_story(client: FlaskClient, database: Database) -> None:
    alert_id = rows.seed(database)["attack"]
    text = shown(page(client, f"/alerts/{alert_id}"))
    for said in (
        "Someone is probably trying out stolen card numbers.",
        "Written by the model gpt-test",
        "Suggested action",
        "Block rate 35.0 % > 30 % Above the merchant's own threshold",
        "Distinct cards",
        "New alert",
        "Opened a new alert. The merchant's own conditions were met. Message: first message.",
        "3 repeats, already counted",
        "Block rate missing, cannot be compared with > 30 % (merchant's own threshold)",
        "Message held back: frequency limit reached.",
        "from P2: 50 triggers",
        "from P3: a graver rule fired",
        "invalid 'To' phone number",
        "3 retries",
        "Called the merchant: they will switch 3-D Secure on. @dana please watch.",
    ):
        assert said in text, said


def test_a_chart_follows_the_viewers_theme(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    elements = Elements(page(client, f"/alerts/{alert_id}")).found
    dark = [given for tag, given in elements if tag == "source"]
    light = [given for tag, given in elements if tag == "img" and "chart.svg" in (given["src"] or "")]
    assert "theme=dark" in (dark[0]["srcset"] or "")
    assert dark[0]["media"] == "(prefers-color-scheme: dark)"
    assert "theme=light" in (light[0]["src"] or "")
    assert "Block rate" in (light[0]["alt"] or "")
    assert light[0]["width"]
    assert light[0]["height"]


def test_a_suppressed_merchant_finds_its_reason_among_the_triggers(client: FlaskClient, database: Database) -> None:
    rows.seed(database)
    text = shown(page(client, "/triggers?account=acc_029&outcome=suppressed"))
    assert "Mistral Outdoor" in text
    assert "No alert was raised. The merchant's own conditions were not met." in text
    assert "Block rate 24.1 %, not met: needs > 30 % (merchant's own threshold)" in text
    assert "Failed authorisations 55.0 %, met: > 50 %" in text


def test_triggers_are_walked_to_the_end(client: FlaskClient, database: Database) -> None:
    for number in range(120):
        rows.insert_trigger(database, at=NOW - timedelta(minutes=number), alert_name=f"Rule{number}")
    seen, path = set(), "/triggers?account=acc_017"
    for _ in range(3):
        text = page(client, path)
        seen |= set(re.findall(r"Rule\d+", text))
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = html.unescape(following[1]) if following else ""
    assert len(seen) == 120
    assert not path


def test_a_rejected_trigger_that_could_not_be_read_is_shown(client: FlaskClient, database: Database) -> None:
    rows.insert_trigger(database, outcome="rejected", outcome_reason="no labels", verdict={"error": "x", "raw": "{"})
    with database.write() as connection:
        blank = dict.fromkeys(("alert_name", "alert_type", "account_id", "status", "severity"), "")
        connection.execute(sa.update(alert_trigger_log).values(labels={}, starts_at=None, **blank))
    assert "It could not be used. No labels." in shown(page(client, "/triggers"))


# ---- hostile text --------------------------------------------------------------------------------


def test_names_from_outside_are_never_markup(client: FlaskClient, database: Database) -> None:
    alert_id = rows.seed(database)["hostile"]
    for path in ("/alerts", f"/alerts/{alert_id}", "/triggers", "/alerts?q=%3Cscript%3E%22%27&type=%22%3E%3Cb%3E"):
        text = page(client, path)
        elements = Elements(text).found
        assert not [tag for tag, given in elements if tag == "script" and "src" not in given]
        handlers = [name for _, given in elements for name in given if name.startswith("on") or name == "style"]
        assert handlers == []
        assert "\u202e" not in text
    assert '<script>alert(1)</script>"\' onmouseover="x" {{7*7}} gnp.exe & Söhne' in shown(page(client, "/alerts"))


def test_hostile_text_comes_back_into_a_form_as_it_was_typed(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    csrf = token_in(page(client, f"/alerts/{alert_id}"))
    typed = '</textarea><script>alert(1)</script>"'
    response = client.post(f"/alerts/{alert_id}/resolve", data={"csrf_token": csrf, "note": typed})
    assert "</textarea><script>" not in response.text
    hidden = [given for tag, given in Elements(response.text).found if given.get("name") == "note" and tag == "input"]
    assert hidden[0]["value"] == typed


def test_a_long_name_is_shown_whole_on_its_page(client: FlaskClient, database: Database) -> None:
    assert LONG in page(client, f"/alerts/{rows.seed(database)['long']}")


def test_the_json_holds_hostile_names_as_they_are_and_is_never_html(client: FlaskClient, database: Database) -> None:
    alert_id = rows.seed(database)["hostile"]
    response = client.get(f"/api/v1/alerts/{alert_id}")
    assert response.json
    assert response.json["merchant_name"] == HOSTILE
    assert response.mimetype == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


# ---- closing an alert ----------------------------------------------------------------------------


def test_resolving_asks_once_acts_once_and_says_so(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    data = {"csrf_token": token_in(page(client, f"/alerts/{alert_id}")), "note": "  Blocked the range  "}
    asked = client.post(f"/alerts/{alert_id}/resolve", data=data)
    assert "Resolve this alert?" in asked.text
    assert client.application.extensions["actions"].asked == []
    done = client.post(f"/alerts/{alert_id}/resolve", data=data | {"confirmed": "yes"})
    assert (done.status_code, done.location) == (303, f"/alerts/{alert_id}")
    assert client.application.extensions["actions"].asked == [(alert_id, "RESOLVED", "Blocked the range", "admin")]
    text = shown(page(client, f"/alerts/{alert_id}"))
    assert "Resolved. Whoever was told of the attack is told that it ended." in text
    assert "Already resolved" in text
    assert "Blocked the range" in text
    assert "Resolve…" not in text


def test_dismissing_keeps_the_reason(client: FlaskClient, database: Database) -> None:
    for data, kept in (
        ({"reason": "False positive", "detail": ""}, "FALSE_POSITIVE"),
        ({"reason": "Normal business", "detail": "Festival"}, "NORMAL_BUSINESS Festival"),
        ({"reason": "Other", "detail": "A drill"}, "OTHER A drill"),
    ):
        alert_id = rows.insert_alert(database)
        csrf = token_in(page(client, f"/alerts/{alert_id}"))
        client.post(f"/alerts/{alert_id}/dismiss", data=data | {"csrf_token": csrf, "confirmed": "yes"})
        assert client.application.extensions["actions"].asked[-1] == (alert_id, "DISMISSED", kept, "admin")


def test_without_a_reason_nothing_happens_and_the_form_says_what_is_missing(
    client: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database)
    csrf = token_in(page(client, f"/alerts/{alert_id}"))
    missing: list[tuple[str, dict[str, str], str]] = [
        ("resolve", {"note": "   "}, "Say what was done"),
        ("resolve", {}, "Say what was done"),
        ("resolve", {"note": "x" * 2001}, "at most 2000"),
        ("resolve", {"note": "a\0b"}, "Say what was done"),
        ("dismiss", {"detail": "x"}, "Choose a reason"),
        ("dismiss", {"reason": "Because"}, "Choose a reason"),
        ("dismiss", {"reason": "Other", "detail": " "}, "Say why"),
        ("dismiss", {"reason": "Other", "detail": "a\0b"}, "Say why"),
    ]
    for kind, data, hint in missing:
        response = client.post(f"/alerts/{alert_id}/{kind}", data=data | {"csrf_token": csrf, "confirmed": "yes"})
        assert response.status_code == 422, data
        assert hint in response.text
    assert client.application.extensions["actions"].asked == []


def test_whoever_acts_on_an_old_page_is_told_what_has_changed_and_asked(
    client: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database, severity="P2")
    old = page(client, f"/alerts/{alert_id}")
    rises(database, alert_id)
    asked = client.post(f"/alerts/{alert_id}/snooze", data=fields_in(old) | {"hours": "4"})
    said = shown(asked.text)
    for text in ("Snooze this alert?", "The severity was P2 and is P0 now.", "Severity rose: 50 triggers", "P0"):
        assert text in said
    assert not detail_of(client, alert_id)["snoozed_until"]
    confirmed = fields_in(asked.text)
    assert (confirmed["hours"], confirmed["confirmed"]) == ("4", "yes")
    done = client.post(f"/alerts/{alert_id}/snooze", data=confirmed)
    assert done.status_code == 303
    assert detail_of(client, alert_id)["snoozed_until"]


def test_a_confirmation_on_an_old_page_is_not_taken_for_one(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database, severity="P2")
    old = fields_in(page(client, f"/alerts/{alert_id}"))
    rises(database, alert_id)
    asked = client.post(f"/alerts/{alert_id}/resolve", data=old | {"note": "done", "confirmed": "yes"})
    assert "Severity rose: 50 triggers" in shown(asked.text)
    assert client.application.extensions["actions"].asked == []


def test_what_changes_nothing_for_a_reader_is_not_asked_about(client: FlaskClient, database: Database) -> None:
    """That it fired once more: a running attack does so all the time; who would close it is told."""
    alert_id = rows.insert_alert(database)
    old = fields_in(page(client, f"/alerts/{alert_id}"))
    rises(database, alert_id, kind="TRIGGER_EVENT", severity="P1")
    assert client.post(f"/alerts/{alert_id}/acknowledge", data=old).status_code == 303
    asked = client.post(f"/alerts/{alert_id}/resolve", data=old | {"note": "done", "confirmed": "yes"})
    assert "It fired again, 1 time." in shown(asked.text)
    assert "Acknowledged by admin" in shown(asked.text)
    assert client.post(f"/alerts/{alert_id}/comment", data=old | {"content": "a note"}).status_code == 303


def test_a_change_at_the_very_moment_is_not_run_over(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert_id = rows.insert_alert(database)
    data = fields_in(page(client, f"/alerts/{alert_id}")) | {"hours": "1"}
    snooze = AlertActions.snooze

    def late(actions: AlertActions, of: str, until: datetime, doing: Doing) -> Acted:
        rises(database, of)
        return snooze(actions, of, until, doing)

    monkeypatch.setattr(AlertActions, "snooze", late)
    answer = client.post(f"/alerts/{alert_id}/snooze", data=data, follow_redirects=True)
    assert "Nothing was changed: the alert changed at the same moment." in shown(answer.text)
    assert not detail_of(client, alert_id)["snoozed_until"]


def rises(database: Database, alert_id: str, *, kind: str = "SEVERITY_ESCALATION", severity: str = "P0") -> None:
    at = NOW + timedelta(seconds=1)
    rows.insert_comment(database, alert_id, "Severity rose: 50 triggers", kind=kind, by="system", at=at)
    version = alert_dynamic.c.version + 1
    with database.write() as connection:
        of = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == alert_id)
        connection.execute(of.values(current_severity=severity, version=version, updated_at=at))


def fields_in(text: str) -> dict[str, str]:
    """Hidden fields: those of the page's last form count."""
    found = [given for tag, given in Elements(text).found if tag == "input" and given.get("type") == "hidden"]
    return {str(given["name"]): str(given["value"]) for given in found}


def detail_of(client: FlaskClient, alert_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/alerts/{alert_id}").get_json()
    return found


def test_closing_what_another_has_closed_changes_nothing_and_says_so(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database, status="RESOLVED")
    csrf = token_in(page(client, f"/alerts/{alert_id}"))
    data = {"csrf_token": csrf, "note": "x", "confirmed": "yes"}
    answer = client.post(f"/alerts/{alert_id}/resolve", data=data, follow_redirects=True)
    assert "Nothing was changed: the alert is already RESOLVED." in shown(answer.text)


def test_an_unknown_alert_is_a_page_of_its_own(client: FlaskClient) -> None:
    csrf = token_in(page(client, "/alerts"))
    for path in (f"/alerts/{uuid4()}", "/alerts/not-an-id", "/nowhere"):
        assert "There is nothing at this address" in page(client, path, 404)
    data = {"csrf_token": csrf, "note": "x", "confirmed": "yes"}
    assert client.post(f"/alerts/{uuid4()}/resolve", data=data).status_code == 404


def test_a_session_that_ended_is_quiet_and_not_over(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database, session_status="EXPIRED")
    assert "Quiet: no trigger within the session timeout" in shown(page(client, f"/alerts/{alert_id}"))
