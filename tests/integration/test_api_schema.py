"""The API against its own document: whatever schemathesis asks, the answer is one that the document promises."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
import schemathesis
from access_rows import FOREIGN, OWN, Site
from fakes_push import PushStub
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import SecretStr
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode

from webhook.domain.access import Role
from webhook.notifiers.twilio import signature
from webhook.notifiers.web_push import new_key, public_key
from webhook.pipeline.chart import AlertChart
from webhook.storage.keys import prefix_of

SETTINGS = {
    "rate_limit_write": "off",
    "rate_limit_read": "off",
    "rate_limit_address": "off",
    "prometheus_url": "http://127.0.0.1:9",
    "insecure_webhooks": True,  # host names are not looked up
    "max_body_bytes": 100_000,
}
GATEWAY = {
    "sms": {
        "account_sid": "AC01",
        "auth_token": SecretStr("t"),
        "from_number": "+15005550006",
        "status_callback_url": "https://sentinel.example/api/v1/sms/status",
    }
}
PUSH_KEY = new_key()
EXAMPLES = {
    "sqlite": {GenerationMode.POSITIVE: 5, GenerationMode.NEGATIVE: 4},
    "postgresql": {GenerationMode.POSITIVE: 3, GenerationMode.NEGATIVE: 1},
}
MODEST = {
    "derandomize": True,  # the same requests each time: what fails here fails for everybody
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


REPORTED = "POST /api/v1/sms/status"
ALERT, CONFIG = "/api/v1/alerts/{alert_id}", "/api/v1/alerts/config"
PUSHED = "/api/v1/push/subscriptions/{subscription_id}"


@dataclass
class Driven:
    """The whole application, and what is really there for a request that should succeed."""

    site: Site
    push: PushStub
    alert_type: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def alert(self, case: Any) -> None:
        alert_id = rows.insert_alert(self.site.database, account_id=OWN)
        rows.insert_notification(self.site.database, alert_id, channel="console")
        case.path_parameters["alert_id"] = alert_id

    def acknowledged(self, case: Any) -> None:
        self.alert(case)
        self._do(case, "acknowledge")

    def snoozed(self, case: Any) -> None:
        self.alert(case)
        self._do(case, "snooze")

    def channels(self, case: Any) -> None:
        self.alert(case)
        if isinstance(case.body, dict) and case.body.get("channels"):
            case.body["channels"] = ["console"]

    def _do(self, case: Any, action: str) -> None:
        path = f"/api/v1/alerts/{case.path_parameters['alert_id']}/{action}"
        assert self.site.client().post(path, headers=self.headers).status_code == 200

    def letter(self, case: Any) -> None:
        alert_id = rows.insert_alert(self.site.database)
        letter = rows.insert_notification(self.site.database, alert_id, status="FAILED", channel="console")
        case.path_parameters["notification_id"] = letter

    def key(self, case: Any) -> None:
        case.path_parameters["prefix"] = prefix_of(self.site.key("spare", Role.OPS))

    def expiry(self, case: Any) -> None:
        """JSON Schema has no words for a time that must not be past."""
        if case.body.get("expires_at"):
            case.body["expires_at"] = (rows.NOW + timedelta(days=9)).isoformat()

    def config(self) -> tuple[str, str]:
        """A configuration at its second version."""
        alert_type = f"TYPE_{next(self.alert_type)}"
        for enabled in (True, False):
            body = {"merchant_id": OWN, "alert_type": alert_type, "enabled": enabled}
            saved = self.site.client().put(CONFIG, json=body, headers=self.headers | {"If-Match": "*"})
            assert saved.status_code == 200, saved.text
        return OWN, alert_type

    def settings(self, case: Any) -> None:
        """Which threshold an operator wants, and which host a channel may have, the answer says and no schema."""
        fitting = {">": 0.3, "in": ["AP", 2.5], "regex": "^A+", "contains": "x"}
        conditions = [{"metric_name": "m", "operator": sign, "threshold": wanted} for sign, wanted in fitting.items()]
        case.body |= {"trigger_conditions": conditions, "channels": {"console": {}, "slack": {"channel": "#fraud"}}}

    def certificate(self, case: Any) -> None:
        """Of what Slack asks, this alone is not signed; signatures are no matter of a schema."""
        case.body = {"ssl_check": "1"}

    def deleted(self, case: Any) -> None:
        merchant, alert_type = self.config()
        case.query = {"merchant_id": merchant, "alert_type": alert_type, "version": 2}

    def restored(self, case: Any) -> None:
        merchant, alert_type = self.config()
        case.body |= {"merchant_id": merchant, "alert_type": alert_type, "version": 2, "restore_version": 1}

    def signed(self, case: Any) -> None:
        merchant, alert_type = self.config()
        which = {"merchant_id": merchant, "alert_type": alert_type}
        webhook = {"webhook": {"webhook_url": "https://203.0.113.7/sentinel"}}
        body, headers = which | {"channels": webhook}, self.headers | {"If-Match": "*"}
        saved = self.site.client().put(CONFIG, json=body, headers=headers)
        assert saved.status_code == 200, saved.text
        case.body |= which

    def browser(self, case: Any) -> None:
        """Keys that a message can be encrypted for."""
        case.body |= self.push.browser().subscription

    def subscription(self, case: Any) -> None:
        path, browser = "/api/v1/push/subscriptions", self.push.browser()
        made = self.site.client().post(path, json=browser.subscription, headers=self.headers)
        assert made.status_code == 201, made.text
        case.path_parameters["subscription_id"] = made.get_json()["id"]

    def template(self, case: Any) -> None:
        """What it has to hold no schema says; at its second version, so that there is an old one."""
        case.path_parameters["alert_type"] = alert_type = f"TYPE_{next(self.alert_type)}"
        for text in ("An old one. ", ""):
            body = {"prompt_template": text + PROMPT}
            saved = self.site.client().put(f"{TEMPLATES}/{alert_type}", json=body, headers=self.headers)
            assert saved.status_code == 200, saved.text
        if isinstance(case.body, dict):
            given = {"prompt_template": PROMPT, "restore_version": 1, "alert_id": self.site.own}
            case.body |= {name: value for name, value in given.items() if name in case.body}

    def channel(self, case: Any) -> None:
        """One that sends nothing anywhere; what each takes no schema of all says."""
        case.path_parameters["name"], case.body = "console", {}

    def reported(self, case: Any) -> None:
        """Signed by the gateway, of a message that is on its way."""
        case.query = {"m": str(uuid4())}
        url = f"https://sentinel.example/api/v1/sms/status?m={case.query['m']}"
        case.headers["X-Twilio-Signature"] = signature(url, [], "t")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.site.keys[Role.ADMIN]}"}


TEMPLATES, PROMPT = "/api/v1/alert-templates", "<alert_data>{{metrics_data}}</alert_data>"
FED: dict[str, Callable[[Driven, Any], None]] = {
    f"POST {ALERT}/unacknowledge": Driven.acknowledged,
    f"POST {ALERT}/unsnooze": Driven.snoozed,
    f"POST {ALERT}/resend-notification": Driven.channels,
    "POST /api/v1/dead-letters/{notification_id}/replay": Driven.letter,
    "DELETE /api/v1/dead-letters/{notification_id}": Driven.letter,
    "POST /api/v1/api-keys": Driven.expiry,
    "POST /api/v1/api-keys/{prefix}/rotate": Driven.key,
    "POST /api/v1/api-keys/{prefix}/revoke": Driven.key,
    "POST /api/v1/channels/{name}/preview": Driven.channel,
    "POST /api/v1/channels/{name}/test": Driven.channel,
    REPORTED: Driven.reported,
    "POST /api/v1/slack/interactions": Driven.certificate,
    f"PUT {CONFIG}": Driven.settings,
    f"POST {CONFIG}/preview": Driven.settings,
    f"DELETE {CONFIG}": Driven.deleted,
    f"POST {CONFIG}/restore": Driven.restored,
    f"POST {CONFIG}/webhook-secret": Driven.signed,
    "POST /api/v1/push/subscriptions": Driven.browser,
    f"DELETE {PUSHED}": Driven.subscription,
    f"POST {PUSHED}/test": Driven.subscription,
    **{
        f"{method} {TEMPLATES}/{{alert_type}}{rest}": Driven.template
        for method, rest in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/restore"), ("POST", "/test"))
    },
}
"""What makes a drawn request one of something that exists; of `{alert_id}` an alert, for all others."""


@pytest.fixture
def driven(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    monkeypatch.setattr("webhook.web.rates.ATTEMPTS", 10**6)  # wrong keys are tried all the time here
    monkeypatch.setattr(AlertChart, "draw", lambda _, **__: b"a picture")
    options = {"webapp": {"vapid_private_key": PUSH_KEY, "subject": "mailto:oncall@sentinel.example"}}
    site = Site(
        rows.open_store(store_url), settings=SETTINGS | {"secret_key": "s", "channel_options": GATEWAY | options}
    )
    rows.seed(site.database)
    rows.insert_trigger(site.database, site.foreign, account_id=FOREIGN)
    with PushStub(public_key(PUSH_KEY)) as push:
        yield Driven(site, push)
    site.close()
    site.database.close()


def test_each_route_of_the_api_is_in_the_document(driven: Driven) -> None:
    app = driven.site.app
    served = {
        (method.lower(), re.sub(r"<(?:[^:<>]*:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/")
    }
    document = app.test_client().get("/api/v1/openapi.json", headers=driven.headers).get_json()
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert served - {("get", "/api/v1/openapi.json")} == described


@pytest.mark.timeout(900)  # it is half a minute of work; others may be working too
def test_every_answer_is_in_the_document(driven: Driven, store_url: str) -> None:
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", driven.site.app, headers=driven.headers)
    failures: list[str] = []
    answered: defaultdict[str, set[int]] = defaultdict(set)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode, examples in EXAMPLES[store_url.split("+", maxsplit=1)[0].split(":", maxsplit=1)[0]].items():
            if mode is GenerationMode.NEGATIVE and operation.label == REPORTED:
                continue  # nothing of it is described but its signature, which stands in a header
            try:
                _drive(driven, operation, mode, examples, answered[operation.label])
            except BaseExceptionGroup as group:
                failures += [f"{operation.label} ({mode.value}): {error}" for error in group.exceptions]
            except Exception as error:  # noqa: BLE001 - told below, all at once
                failures.append(f"{operation.label} ({mode.value}): {error!r}")
    assert not failures, "\n\n".join(failures)
    never = {label: statuses for label, statuses in answered.items() if not statuses & {200, 201, 204}}
    assert not never, "asked only for what does not exist, or is refused"


def _drive(driven: Driven, operation: Any, mode: GenerationMode, examples: int, answered: set[int]) -> None:
    @settings(max_examples=examples, **MODEST)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if (
            "{alert_id}" in operation.path
            and case.meta.components[ParameterLocation.PATH].mode is GenerationMode.POSITIVE
        ):
            driven.alert(case)
        if case.meta.generation.mode is GenerationMode.POSITIVE:  # what was drawn to be wrong may be right after all
            FED.get(operation.label, lambda *_: None)(driven, case)
            _on_any_version(case)
        response = case.call_and_validate(headers=driven.headers)
        answered.add(response.status_code)

    ask()


def _on_any_version(case: Any) -> None:
    if "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    if isinstance(case.body, dict):
        case.body.pop("version", None)
