"""Push messages in a real browser: subscribing by click, what the service worker shows, notes on an open page.

No push service can be reached from here, so the browser's `pushManager` is a stand-in that gives a subscription of
`FakeBrowser`; the service worker is the real one, and gets its messages through the browser's own tools.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
import requests
from browsing import PHONE, WIDE, Browser, serving
from fakes_push import FakeBrowser, PushStub
from notes import ended_note, make_message, make_note
from selenium import webdriver
from servers import wait_for
from settings_site import settings_site
from websocket import create_connection

from webhook.adapters.secrets import SecretBox
from webhook.domain.severity import Severity
from webhook.notifiers.web_push import new_key, public_key
from webhook.notifiers.webapp import WebApp, WebAppOptions, payload_of, service_of, web_push
from webhook.storage.database import Database
from webhook.storage.push import PushSubscriptions, WebReaders
from webhook.web.live import Broadcaster
from webhook.web.push_api import PushSite

pytestmark = pytest.mark.browser

KEY = new_key()
OPTIONS = WebAppOptions.model_validate({"vapid_private_key": KEY, "subject": "mailto:oncall@sentinel.example"})
BOX = SecretBox([], "s")
STAND_IN = """
window.asked = [];
let held = null;
const given = %s;
const key = Uint8Array.from(atob("%s".replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)).buffer;
PushManager.prototype.subscribe = async (options) => {
  asked.push(Object.keys(options).join());
  held = { ...given, toJSON: () => given, options: { applicationServerKey: key },
    unsubscribe: async () => { held = null; return true; } };
  return held;
};
PushManager.prototype.getSubscription = async () => held;
"""
SHOWN = """
const done = arguments[arguments.length - 1];
navigator.serviceWorker.getRegistration("/").then(async (found) => {
  const shown = await found.getNotifications();
  done(shown.map(({title, body, tag, requireInteraction, actions, data}) =>
    ({title, body, tag, requireInteraction, actions: actions.map((a) => a.action), path: data.path})));
});
"""


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sentinel.db"


@pytest.fixture
def service() -> Iterator[PushStub]:
    with PushStub(public_key(KEY)) as stub:
        yield stub


@pytest.fixture
def site(database: Database, service: PushStub) -> Iterator[tuple[str, Broadcaster]]:
    clock = lambda: datetime.now(UTC)  # noqa: E731 - short
    push = web_push(OPTIONS, insecure=True)
    where = service_of(OPTIONS, insecure=True)
    subscribed = PushSite(PushSubscriptions(database, BOX), clock, where, public_key(KEY), push)
    app, _ = rows.make_app(database, clock, config=settings_site(database, clock), push=subscribed)
    with serving(app) as url:
        yield url, app.extensions["sentinel_broadcaster"]


def tell(database: Database, *, ended: bool = False, **changes: Any) -> None:
    make = ended_note if ended else make_note
    note = make(notification_id=str(uuid4()), created_at=datetime.now(UTC), **changes)
    WebApp(OPTIONS, WebReaders(database, BOX), insecure=True).send(make_message(note), {})


def shown(browser: Browser) -> list[dict[str, Any]]:
    """The notifications of the browser, as the service worker has put them there."""
    found: list[dict[str, Any]] = browser.driver.execute_async_script(SHOWN)
    return found


def deliver(browser: Browser, origin: str, data: str, title: str) -> list[dict[str, Any]]:
    """What a push service would deliver, already decrypted; what is shown once there is a notification of this `title`.

    Past the driver, which passes no events on. The browser drops a message whose sender hangs up before it is handled.
    """
    address = browser.driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
    targets = requests.get(f"http://{address}/json", timeout=60).json()
    page = next(target for target in targets if target["type"] == "page" and target["url"].startswith(origin))
    with contextlib.closing(create_connection(page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True)) as tools:
        tools.send(json.dumps({"id": 1, "method": "ServiceWorker.enable"}))
        registration = None
        while registration is None:
            told = json.loads(tools.recv())
            for one in told.get("params", {}).get("registrations", []):
                if one["scopeURL"] == f"{origin}/":
                    registration = one["registrationId"]
        message = {"origin": origin, "registrationId": registration, "data": data}
        tries = itertools.count()

        def there() -> list[dict[str, Any]]:
            if next(tries) % 40 == 0:  # a busy browser may lose one; the tag makes one notification of all
                tools.send(json.dumps({"id": 2, "method": "ServiceWorker.deliverPushMessage", "params": message}))
            found = shown(browser)
            return found if title in [one["title"] for one in found] else []

        return wait_for(there, what=title)


def allow(driver: webdriver.Chrome, setting: str) -> None:
    driver.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "notifications"}, "setting": setting})


@pytest.fixture
def stand_in(browser: Browser, service: PushStub) -> Iterator[FakeBrowser]:
    """Its subscription is what the page gets."""
    made = service.browser()
    script = {"source": STAND_IN % (json.dumps(made.subscription), public_key(KEY))}
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    yield made
    browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    browser.driver.execute_cdp_cmd("Browser.resetPermissions", {})


def state(browser: Browser, wanted: str) -> str:
    browser.wait(f"document.getElementById('push').dataset.state === '{wanted}'", f"state {wanted}")
    return browser.text(".push-word")


def picture(browser: Browser, name: str) -> None:
    """For whoever looks at them: SENTINEL_PICTURES names a folder."""
    if folder := os.environ.get("SENTINEL_PICTURES"):
        browser.driver.save_screenshot(f"{folder}/{name}.png")


def test_subscribing_testing_and_unsubscribing_by_click(
    browser: Browser, database: Database, stand_in: FakeBrowser
) -> None:
    allow(browser.driver, "granted")
    browser.open("/settings")
    assert state(browser, "off") == "Off."
    assert browser.js("return asked") == [], "nothing is asked of the reader without a click"
    picture(browser, "control-off")
    browser.click("#push-on")
    assert state(browser, "on").startswith("On:")
    assert browser.js("return asked") == ["userVisibleOnly,applicationServerKey"]
    tell(database)
    assert stand_in.messages[-1]["severity"] == "P1"
    browser.click("#push-test")
    browser.wait("document.getElementById('push-said').textContent.startsWith('Sent')", "answer")
    assert stand_in.messages[-1]["type"] == "test"
    browser.js(
        "const s = document.getElementById('push-severity'); s.value = 'P0'; s.dispatchEvent(new Event('change'));"
    )
    browser.wait("document.getElementById('push-said').textContent === 'Saved.'", "saved")
    told = len(stand_in.messages)
    tell(database)
    assert len(stand_in.messages) == told, "P1 is not grave enough any more"
    for size, theme in ((WIDE, "light"), (WIDE, "dark"), (PHONE, "light")):
        browser.look(size, theme)
        picture(browser, f"control-on-{theme}-{size[0]}")
    browser.look(WIDE, "light")
    browser.click("#push-off")
    assert state(browser, "off") == "Off."
    browser.js("localStorage.clear()")
    tell(database, severity=Severity.P0)
    assert len(stand_in.messages) == told
    assert browser.js("return window.violations") == []
    assert browser.complaints() == []


def test_who_has_blocked_notifications_is_told_so(browser: Browser, stand_in: FakeBrowser) -> None:
    allow(browser.driver, "denied")
    browser.open("/settings")
    assert state(browser, "blocked").startswith("Blocked: this browser")
    assert not browser.driver.find_element("id", "push-on").is_displayed()
    picture(browser, "control-blocked")


def test_a_browser_without_push_is_told_so(browser: Browser) -> None:
    script = {"source": "delete window.PushManager;"}
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    browser.open("/settings")
    assert state(browser, "unsupported").startswith("Not possible")
    browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_logging_out_ends_the_subscription_of_this_browser(
    browser: Browser, database: Database, stand_in: FakeBrowser
) -> None:
    allow(browser.driver, "granted")
    browser.open("/settings")
    state(browser, "off")
    browser.click("#push-on")
    state(browser, "on")
    browser.click("form.leave button")
    browser.wait("location.pathname === '/login'", "logged out")
    tell(database)
    assert stand_in.messages == []


def test_the_service_worker_shows_what_was_pushed(
    browser: Browser, stand_in: FakeBrowser, site: tuple[str, Broadcaster]
) -> None:
    allow(browser.driver, "granted")
    browser.open("/settings")
    state(browser, "off")
    browser.click("#push-on")
    state(browser, "on")
    message = make_message()
    head = "P1 Critical: Card testing attack: Northwind Books"
    assert deliver(browser, site[0], json.dumps(payload_of(message)), head) == [
        {
            "title": head,
            "body": f"Northwind Books\n{payload_of(message)['body']}",
            "tag": message.alert_id,
            "requireInteraction": True,
            "actions": ["view", "dismiss"],
            "path": f"/alerts/{message.alert_id}",
        }
    ]
    hostile = {"title": rows.HOSTILE, "alert_id": message.alert_id, "severity": "P3", "reason": "resolved",
               "actions": [{"label": "x", "action": "navigate", "url": "https://elsewhere.example/"}]}  # fmt: skip
    (newer,) = deliver(browser, site[0], json.dumps(hostile), f"Ended: {rows.HOSTILE}")
    assert newer["path"] == "/alerts", "in the place of the older one, and it leads nowhere else"
    assert len(deliver(browser, site[0], "no JSON", "Sentinel")) == 2, "something is shown all the same"


def test_a_message_shows_on_an_open_page_and_in_its_title(browser: Browser, database: Database) -> None:
    alert_id = rows.insert_alert(database, at=datetime.now(UTC))
    browser.open("/alerts")
    browser.wait_live()
    title = browser.js("return document.title")
    browser.js("document.hasFocus = () => false")
    tell(database, alert_id=alert_id, merchant_name="First & <b>only</b>")
    browser.wait("document.querySelector('.toast') !== null", "toast")
    assert browser.text(".toast-title") == "Card testing attack: First & <b>only</b>"
    assert browser.text(".toast .severity") == "P1 Critical"
    assert browser.js("return document.title") == f"1 new · {title}"
    assert browser.js("return document.getElementById('toasts').getAttribute('aria-live')") == "polite"
    tell(database, alert_id=alert_id, severity=Severity.P0)
    browser.wait("document.querySelector('.toast .severity').textContent.includes('P0')", "the newer in its place")
    assert len(browser.driver.find_elements("css selector", ".toast")) == 1
    tell(database, ended=True, alert_id=str(uuid4()), severity=Severity.P2)
    browser.wait("document.querySelectorAll('.toast').length === 2", "another alert's")
    assert browser.text(".toast:last-child .toast-ended") == "Ended"
    assert browser.js("return document.title").startswith("3 new")
    for size, theme in ((WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")):
        browser.look(size, theme)
        picture(browser, f"toast-{theme}-{size[0]}")
        broad = browser.js("return [document.documentElement.scrollWidth, innerWidth]")
        assert broad[0] <= broad[1], (size, theme)
    browser.look(WIDE, "light")
    browser.js("document.hasFocus = () => true; dispatchEvent(new Event('focus'))")
    assert browser.js("return document.title") == title
    browser.click(".toast:last-child .toast-dismiss")
    assert len(browser.driver.find_elements("css selector", ".toast")) == 1
    browser.click(".toast-view")
    browser.wait(f"location.pathname === '/alerts/{alert_id}'", "the alert's page")
    assert browser.js("return window.violations") == []
    assert browser.complaints() == []
