"""Every route, with every method, asked by everybody. A route that has no line here fails.

A line says what each sort of caller gets. `{own}` and `{foreign}` are alerts of the merchant and of somebody else;
where a route names an alert it gets a line for each. Add a line when you add a route.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import page_rows as rows
import pytest
from access_rows import FOREIGN, OWN, Site
from ingest_shop import save_configs
from page_reading import token_in

from webhook.domain.access import Role
from webhook.domain.evaluation import MerchantConfig
from webhook.storage.keys import prefix_of

AWAY, MISSING, NOT_YOURS, UNKNOWN, WRONG, MOVED = 401, 404, 403, 401, 400, 303
LOGIN = 303  # pages send strangers to the login
BAD = 400
CONFLICT = 409
NO_CHART = 503  # there is no Prometheus in these tests


@dataclass(frozen=True)
class Asked:
    """`rule` as in the URL map; the statuses of nobody, merchant, ops, admin; `path` fills the rule."""

    method: str
    rule: str
    nobody: int
    merchant: int
    ops: int
    admin: int
    path: str = ""
    json: Any = None
    form: dict[str, str] | None = None
    hidden: str = ""  # what a merchant must not read in its answer, whatever its status
    headers: dict[str, str] = field(default_factory=dict)


ALERT, CHART = "/api/v1/alerts/<uuid:alert_id>", "/api/v1/alerts/<uuid:alert_id>/chart.<any(png, svg):image_format>"
PAGE = "/alerts/<uuid:alert_id>"
SLACK = "/api/v1/slack/interactions"
RESOLVE = {"resolution_note": "done", "resolved_by": "ana"}
DISMISS = {"dismiss_reason": "a sale", "dismissed_by": "ana"}
NOTE = {"note": "done", "confirmed": "yes"}
REASON = {"reason": "Normal business", "confirmed": "yes"}
KEY = {"name": "n", "role": "ops"}
SENT = {"version": "4", "alerts": []}

LETTER, CONFIG = "/api/v1/dead-letters/<uuid:notification_id>", "/api/v1/alerts/config"
FORM = {"do": "try", "version": "0", "logic": "all", "enabled": "on"}
TEMPLATES = "/api/v1/alert-templates"
TEMPLATE = f"{TEMPLATES}/<alert_type>"
TRY = {"alert_id": "{own}"}
NOBODY = "11111111-1111-4111-8111-111111111111"
PUSHED = "/api/v1/push/subscriptions/<uuid:subscription_id>"
PUSHED_OF_NOBODY = f"/api/v1/push/subscriptions/{NOBODY}"
BROWSER = {"endpoint": "https://push.example/1", "keys": {"p256dh": "AA", "auth": "AA"}}
OF_OWN, OF_FOREIGN = (f"merchant_id={account}&alert_type=CARD_TESTING" for account in (OWN, FOREIGN))


def acting(action: str, body: dict[str, Any], status: int = 200) -> list[Asked]:
    """On an own alert, and on a foreign one."""
    rule = f"{ALERT}/{action}"
    own, foreign = (f"/api/v1/alerts/{{{whose}}}/{action}" for whose in ("own", "foreign"))
    return [
        Asked("POST", rule, AWAY, status, status, status, path=own, json=body),
        Asked("POST", rule, AWAY, MISSING, status, status, path=foreign, json=body),
    ]


def on_page(action: str, form: dict[str, str]) -> list[Asked]:
    rule = f"{PAGE}/{action}"
    own, foreign = (f"/alerts/{{{whose}}}/{action}" for whose in ("own", "foreign"))
    return [
        Asked("POST", rule, LOGIN, MOVED, MOVED, MOVED, path=own, form=form),
        Asked("POST", rule, LOGIN, MISSING, MOVED, MOVED, path=foreign, form=form),
    ]


def settings(method: str, what: str, status: int, form: dict[str, str] | None = None) -> list[Asked]:
    """The pages of an own configuration, and of a foreign one."""
    rule = f"/settings/config{what}"
    own, foreign = (f"{rule}?account={account}&type=VELOCITY_ATTACK" for account in (OWN, FOREIGN))
    return [
        Asked(method, rule, LOGIN, status, status, status, path=own, form=form),
        Asked(method, rule, LOGIN, MISSING, status, status, path=foreign, form=form),
    ]


def config(account: str) -> dict[str, Any]:
    condition = {"metric_name": "block_rate", "operator": ">", "threshold": 0.3}
    return {"merchant_id": account, "alert_type": "CARD_TESTING", "enabled": True, "trigger_conditions": [condition]}


def restoring(account: str) -> dict[str, Any]:
    return {"merchant_id": account, "alert_type": "CARD_TESTING", "restore_version": 99, "version": 1}


def rotating(account: str) -> dict[str, Any]:
    return {"merchant_id": account, "alert_type": "CARD_TESTING"}


def report(account: str) -> dict[str, Any]:
    metric = {"metric_name": "block_rate", "metric_value": 0.1, "threshold": 0.3}
    return {"merchant_id": account, "alert_type": "VELOCITY_ATTACK", "metrics": [metric]}


# fmt: off
TABLE = [
    # method, rule, nobody, merchant, ops, admin
    Asked("GET", "/-/healthy", 200, 200, 200, 200),
    Asked("GET", "/-/ready", 200, 200, 200, 200),
    Asked("GET", "/metrics", 200, 200, 200, 200),
    Asked("GET", "/assets/<path:filename>", 200, 200, 200, 200, path="/assets/style.css"),
    Asked("GET", "/login", 200, MOVED, MOVED, MOVED),
    Asked("POST", "/login", WRONG, 401, 401, 401, form={"token": "x"}),
    Asked("POST", "/logout", WRONG, MOVED, MOVED, MOVED),
    Asked("GET", "/live/events", AWAY, 200, 200, 200),
    # pages
    Asked("GET", "/", LOGIN, 302, 302, 302),
    Asked("GET", "/alerts", LOGIN, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/triggers", LOGIN, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/runbooks", LOGIN, MISSING, 200, 200),
    Asked("GET", "/runbooks/<name>", LOGIN, MISSING, 200, 200, path="/runbooks/ExporterDown"),
    Asked("GET", PAGE, LOGIN, 200, 200, 200, path="/alerts/{own}"),
    Asked("GET", PAGE, LOGIN, MISSING, 200, 200, path="/alerts/{foreign}", hidden=FOREIGN),
    Asked("POST", f"{PAGE}/resolve", LOGIN, MOVED, MOVED, MOVED, path="/alerts/{own}/resolve", form=NOTE),
    Asked("POST", f"{PAGE}/resolve", LOGIN, MISSING, MOVED, MOVED, path="/alerts/{foreign}/resolve", form=NOTE),
    Asked("POST", f"{PAGE}/dismiss", LOGIN, MOVED, MOVED, MOVED, path="/alerts/{own}/dismiss", form=REASON),
    Asked("POST", f"{PAGE}/dismiss", LOGIN, MISSING, MOVED, MOVED, path="/alerts/{foreign}/dismiss", form=REASON),
    *on_page("acknowledge", {"confirmed": "yes"}),
    *on_page("unacknowledge", {"confirmed": "yes"}),
    *on_page("snooze", {"hours": "1", "confirmed": "yes"}),
    *on_page("unsnooze", {"confirmed": "yes"}),
    *on_page("comment", {"content": "x"}),
    *on_page("resend", {"confirmed": "yes"}),
    Asked("GET", "/notifications", LOGIN, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/notifications/dead", LOGIN, 200, 200, 200),
    Asked("POST", "/notifications/dead/replay", LOGIN, NOT_YOURS, MOVED, MOVED),
    Asked("POST", "/notifications/dead/discard", LOGIN, NOT_YOURS, MOVED, MOVED),
    Asked("GET", "/statistics", LOGIN, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/audit", LOGIN, 200, 200, 200, path="/audit?action=alert", hidden=FOREIGN),
    Asked("GET", "/settings", LOGIN, 200, 200, 200, hidden=FOREIGN),
    *settings("GET", "", 200),
    *settings("POST", "", 200, FORM),
    *settings("GET", "/history", 200),
    *settings("POST", "/restore", MISSING, {"restore_version": "99", "version": "1"}),  # no such version
    *settings("POST", "/remove", 200),  # asks first
    # alerts
    Asked("GET", "/api/v1/alerts", AWAY, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/api/v1/triggers", AWAY, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", ALERT, AWAY, 200, 200, 200, path="/api/v1/alerts/{own}"),
    Asked("GET", ALERT, AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}", hidden=FOREIGN),
    Asked("GET", CHART, AWAY, NO_CHART, NO_CHART, NO_CHART, path="/api/v1/alerts/{own}/chart.png"),
    Asked("GET", CHART, AWAY, MISSING, NO_CHART, NO_CHART, path="/api/v1/alerts/{foreign}/chart.svg"),
    Asked("POST", f"{ALERT}/resolve", AWAY, 200, 200, 200, path="/api/v1/alerts/{own}/resolve", json=RESOLVE),
    Asked("POST", f"{ALERT}/resolve", AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}/resolve", json=RESOLVE),
    Asked("POST", f"{ALERT}/dismiss", AWAY, 200, 200, 200, path="/api/v1/alerts/{own}/dismiss", json=DISMISS),
    Asked("POST", f"{ALERT}/dismiss", AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}/dismiss", json=DISMISS),
    Asked("GET", f"{ALERT}/explain", AWAY, 200, 200, 200, path="/api/v1/alerts/{own}/explain"),
    Asked("GET", f"{ALERT}/explain", AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}/explain"),
    Asked("GET", f"{ALERT}/comments", AWAY, 200, 200, 200, path="/api/v1/alerts/{own}/comments"),
    Asked("GET", f"{ALERT}/comments", AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}/comments"),
    Asked("GET", f"{ALERT}/notifications", AWAY, 200, 200, 200, path="/api/v1/alerts/{own}/notifications"),
    Asked("GET", f"{ALERT}/notifications", AWAY, MISSING, 200, 200, path="/api/v1/alerts/{foreign}/notifications"),
    *acting("comments", {"content": "x"}, 201),
    *acting("acknowledge", {}),
    *acting("unacknowledge", {}, 409),  # nobody has acknowledged it
    *acting("snooze", {"minutes": 5}),
    *acting("unsnooze", {}, 409),  # it is not snoozed
    *acting("resend-notification", {"channels": ["console"]}),
    Asked("GET", "/api/v1/notifications", AWAY, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/api/v1/statistics", AWAY, 200, 200, 200, hidden=FOREIGN),
    Asked("GET", "/api/v1/dead-letters", AWAY, 200, 200, 200),
    Asked("POST", "/api/v1/dead-letters/replay", AWAY, NOT_YOURS, 200, 200, json={}),
    Asked("POST", "/api/v1/dead-letters/discard", AWAY, NOT_YOURS, 200, 200, json={}),
    Asked("POST", LETTER + "/replay", AWAY, NOT_YOURS, MISSING, MISSING, path=f"/api/v1/dead-letters/{NOBODY}/replay"),
    Asked("DELETE", LETTER, AWAY, NOT_YOURS, MISSING, MISSING, path=f"/api/v1/dead-letters/{NOBODY}"),
    # what models are asked
    Asked("GET", TEMPLATES, AWAY, NOT_YOURS, 200, 200),
    Asked("PUT", TEMPLATE, AWAY, NOT_YOURS, 200, 200, path=f"{TEMPLATES}/CARD_TESTING",
          json={"prompt_template": "<alert_data>{{metrics_data}}</alert_data>"}),
    Asked("GET", TEMPLATE, AWAY, NOT_YOURS, 200, 200, path=f"{TEMPLATES}/CARD_TESTING"),
    Asked("POST", f"{TEMPLATE}/test", AWAY, NOT_YOURS, 200, 200, path=f"{TEMPLATES}/CARD_TESTING/test", json=TRY),
    Asked("POST", f"{TEMPLATE}/restore", AWAY, NOT_YOURS, 200, 200, path=f"{TEMPLATES}/CARD_TESTING/restore",
          json={"restore_version": 1}),
    Asked("DELETE", TEMPLATE, AWAY, NOT_YOURS, MISSING, MISSING, path=f"{TEMPLATES}/NO_SUCH"),
    # channels
    Asked("GET", "/api/v1/channels", AWAY, NOT_YOURS, 200, 200),
    Asked("POST", "/api/v1/channels/<name>/preview", AWAY, NOT_YOURS, 200, 200,
          path="/api/v1/channels/console/preview", json={}),
    Asked("POST", "/api/v1/channels/<name>/test", AWAY, NOT_YOURS, 200, 200,
          path="/api/v1/channels/console/test", json={}),
    Asked("POST", "/api/v1/sms/status", MISSING, MISSING, MISSING, MISSING),  # there is no gateway
    Asked("GET", "/a/<short_id>", LOGIN, 302, 302, 302, path="/a/{own}"),
    Asked("GET", "/a/<short_id>", LOGIN, MISSING, 302, 302, path="/a/{foreign}"),
    # configurations
    Asked("GET", CONFIG, AWAY, 200, 200, 200, path=f"{CONFIG}?merchant_id={OWN}"),
    Asked("GET", CONFIG, AWAY, MISSING, 200, 200, path=f"{CONFIG}?merchant_id={FOREIGN}"),
    Asked("PUT", CONFIG, AWAY, 200, 200, 200, json=config(OWN), headers={"If-Match": "*"}),
    Asked("PUT", CONFIG, AWAY, MISSING, 200, 200, json=config(FOREIGN), headers={"If-Match": "*"}),
    Asked("GET", f"{CONFIG}/versions", AWAY, 200, 200, 200, path=f"{CONFIG}/versions?{OF_OWN}"),
    Asked("GET", f"{CONFIG}/versions", AWAY, MISSING, 200, 200, path=f"{CONFIG}/versions?{OF_FOREIGN}"),
    Asked("POST", f"{CONFIG}/preview", AWAY, 200, 200, 200, json=config(OWN)),
    Asked("POST", f"{CONFIG}/preview", AWAY, MISSING, 200, 200, json=config(FOREIGN)),
    Asked("POST", f"{CONFIG}/restore", AWAY, MISSING, MISSING, MISSING, json=restoring(OWN)),  # no such version
    Asked("POST", f"{CONFIG}/restore", AWAY, MISSING, MISSING, MISSING, json=restoring(FOREIGN)),
    Asked("POST", f"{CONFIG}/webhook-secret", AWAY, MISSING, MISSING, MISSING, json=rotating(OWN)),  # no webhook there
    Asked("POST", f"{CONFIG}/webhook-secret", AWAY, MISSING, MISSING, MISSING, json=rotating(FOREIGN)),
    Asked("DELETE", CONFIG, AWAY, MISSING, 200, 200, path=f"{CONFIG}?{OF_FOREIGN}", headers={"If-Match": "*"}),
    # reports
    Asked("POST", "/api/v1/alerts/metrics", AWAY, 200, 200, 200, json=report(OWN)),
    Asked("POST", "/api/v1/alerts/metrics", AWAY, NOT_YOURS, 200, 200, json=report(FOREIGN)),
    # push messages
    Asked("GET", "/service-worker.js", 200, 200, 200, 200),
    Asked("GET", "/api/v1/push/key", AWAY, 200, 200, 200),
    Asked("GET", "/api/v1/push/subscriptions", AWAY, 200, 200, 200),
    Asked("POST", "/api/v1/push/subscriptions", AWAY, CONFLICT, CONFLICT, CONFLICT, json=BROWSER),  # not set up here
    Asked("DELETE", PUSHED, AWAY, MISSING, MISSING, MISSING, path=PUSHED_OF_NOBODY),
    Asked("POST", f"{PUSHED}/test", AWAY, MISSING, MISSING, MISSING, path=f"{PUSHED_OF_NOBODY}/test"),
    # the document
    Asked("GET", "/api/v1/openapi.json", AWAY, 200, 200, 200),
    Asked("GET", "/docs/api", LOGIN, 200, 200, 200),
    Asked("GET", "/assets/swagger/<path:filename>", 200, 200, 200, 200, path="/assets/swagger/css/swagger-ui.css"),
    # deliveries
    Asked("POST", "/api/v1/alerts/prometheus/webhook", AWAY, NOT_YOURS, 200, 200, json=SENT),
    # Slack's buttons: its signature alone lets in, see test_slack_signed.py
    Asked("POST", SLACK, AWAY, AWAY, AWAY, AWAY, form={"payload": "{}"}),
    Asked("POST", SLACK, 200, 200, 200, 200, form={"ssl_check": "1"}),
    # who may come in, and who did what
    Asked("GET", "/api/v1/api-keys", AWAY, NOT_YOURS, NOT_YOURS, 200),
    Asked("POST", "/api/v1/api-keys", AWAY, NOT_YOURS, NOT_YOURS, 201, json=KEY),
    Asked("POST", "/api/v1/api-keys/<prefix>/rotate", AWAY, NOT_YOURS, NOT_YOURS, 201,
          path="/api/v1/api-keys/{prefix}/rotate", json={}),
    Asked("POST", "/api/v1/api-keys/<prefix>/revoke", AWAY, NOT_YOURS, NOT_YOURS, 200,
          path="/api/v1/api-keys/{prefix}/revoke"),
    Asked("GET", "/api/v1/audit", AWAY, 200, 200, 200, path="/api/v1/audit?action=alert&limit=100", hidden=FOREIGN),
]
# fmt: on


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """SQLite: that a query takes accounts into its SQL is tested over both, in the tests of the queries."""
    settings = {
        "rate_limit_write": "off",
        "rate_limit_address": "off",
        "prometheus_url": "http://127.0.0.1:9",
        "slack_bot_token": "xoxb-1",
        "channel_options": {"slack": {"signing_secret": "s"}},
    }
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db"
    site = Site(rows.open_store(store), settings=settings)
    rows.insert_trigger(site.database, site.foreign, account_id=FOREIGN)
    save_configs(site.database, [MerchantConfig(FOREIGN, "ACCOUNT_TAKEOVER")], site.clock())
    yield site
    site.close()


def test_every_route_has_a_line(site: Site) -> None:
    found = set()
    for rule in site.app.url_map.iter_rules():
        found |= {(method, rule.rule) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert found == {(asked.method, asked.rule) for asked in TABLE}


@pytest.mark.parametrize("role", ["nobody", "merchant", "ops", "admin"])
def test_everybody_gets_what_the_table_says(site: Site, role: str) -> None:
    wrong, told = [], []
    for asked in TABLE:
        status, text = _ask(site, asked, role)
        if status != getattr(asked, role):
            wrong.append(f"{asked.method} {asked.path or asked.rule}: {status}, not {getattr(asked, role)}")
        if asked.hidden and (asked.hidden in text) != (role in ("ops", "admin") and status < BAD):
            told.append(f"{asked.method} {asked.path or asked.rule}")
    assert (wrong, told) == ([], [])


def _ask(site: Site, asked: Asked, role: str) -> tuple[int, str]:
    """With alerts of its own each time: some routes close them."""
    client, headers, form = site.client(), dict(asked.headers), asked.form
    spare = prefix_of(site.key("spare", Role.OPS))
    path = (asked.path or asked.rule).format(own=site.alert(OWN), foreign=site.alert(FOREIGN), prefix=spare)
    if role != "nobody" and path.startswith("/api/"):
        headers["X-API-Key"] = site.keys[Role(role)]
    elif role != "nobody":
        client = site.logged_in(site.keys[Role(role)])
        if asked.method != "GET":
            form = {**(form or {}), "csrf_token": token_in(client.get("/alerts").text)}
    body = asked.json
    if asked.json is TRY:
        body = {"alert_id": site.alert(OWN)}
    with client.open(path, method=asked.method, json=body, data=form, headers=headers) as answer:
        live = answer.mimetype == "text/event-stream"
        return answer.status_code, "" if live else answer.get_data(as_text=True)
