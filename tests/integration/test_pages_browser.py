"""The pages in a real browser: no errors, alive, usable by click and on a phone, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import page_rows as rows
import pytest
from browsing import PHONE, WIDE, Browser, serving
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from settings_site import settings_site

from webhook.domain.action import DismissReason, Doing
from webhook.storage.database import Database
from webhook.web.live import Broadcaster

pytestmark = pytest.mark.browser

EDITED = "/settings/config?account=acc_017&type=CARD_TESTING"
QUIET_PATHS = ("/settings", EDITED, "/notifications", "/notifications/dead", "/statistics?days=1", "/audit")
"""Pages that do not follow along by themselves."""


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sentinel.db"


@pytest.fixture
def charts() -> rows.FakeCharts:
    return rows.FakeCharts()


@pytest.fixture
def site(database: Database, charts: rows.FakeCharts) -> Iterator[tuple[str, Broadcaster]]:
    config = settings_site(database, lambda: datetime.now(UTC))
    app, _ = rows.make_app(database, lambda: datetime.now(UTC), charts, config=config)
    with serving(app) as url:
        yield url, app.extensions["sentinel_broadcaster"]


def test_every_page_renders_without_a_complaint(browser: Browser, database: Database) -> None:
    ids = rows.seed(database, datetime.now(UTC))
    paths = [
        "/alerts",
        "/triggers",
        "/alerts?q=nobody",
        *QUIET_PATHS,
        *(f"/alerts/{alert_id}" for alert_id in ids.values()),
    ]
    for size in (PHONE, WIDE):
        browser.look(size, "dark" if size is PHONE else "light")
        for path in paths:
            browser.open(path)
            if path not in QUIET_PATHS:
                browser.wait_live()
            broad = browser.js("return [document.documentElement.scrollWidth, innerWidth]")
            assert broad[0] <= broad[1], (path, size)
            assert browser.js("return window.violations") == [], path
            assert browser.js("return window.shifted") < 0.02, (path, size)
    assert browser.complaints() == []


def test_dark_and_light_differ_and_both_can_be_read(browser: Browser, database: Database) -> None:
    rows.seed(database, datetime.now(UTC))
    browser.open("/alerts")
    colours = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    seen = {}
    for theme in ("light", "dark"):
        browser.look(WIDE, theme)
        back, ink = (_luminance(colour) for colour in browser.js(colours))
        seen[theme] = back
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) > 7
    assert seen["light"] > 0.5 > seen["dark"]


def _luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    channels = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_keep_enough_contrast_in_both_themes(browser: Browser, database: Database) -> None:
    ids = rows.seed(database, datetime.now(UTC))
    for path in ("/alerts", f"/alerts/{ids['attack']}", "/triggers", *QUIET_PATHS):
        for theme in ("light", "dark"):
            browser.look(WIDE, theme)
            browser.open(path)
            weak = [
                (theme, path, words, ratio)
                for words, ink, back in browser.js(_COLOURS)
                if (ratio := _contrast(ink, back)) < 4.5
            ]
            assert weak == []


_COLOURS = """
const found = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
  if (!words || !element.checkVisibility() || element.closest('script, option, .visually-hidden, .dot')) continue;
  let behind = element;
  while (behind && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const ink = getComputedStyle(element).color, back = getComputedStyle(behind ?? document.body).backgroundColor;
  found.set(ink + back, [words.slice(0, 40), ink, back]);
}
return [...found.values()];
"""


def _contrast(ink: str, back: str) -> float:
    lighter, darker = sorted((_luminance(ink), _luminance(back)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_a_new_alert_appears_without_a_reload(browser: Browser, database: Database) -> None:
    browser.open("/alerts")
    browser.wait_live()
    browser.js("window.sameDocument = true")
    assert "No alerts yet" in browser.text("#alerts")
    first = rows.insert_alert(database, at=datetime.now(UTC), merchant_name="First & <b>only</b>")
    browser.wait(f"document.querySelector('[data-key=\"{first}\"].is-new') !== null", "new alert")
    assert "First & <b>only</b>" in browser.text("#alerts")
    assert browser.text("#stats .stat-number") == "1"
    assert browser.js("return document.title").startswith("(1)")
    assert browser.js("return document.getElementById('announce').textContent") == "One new alert."
    rows.NotedActions(database).resolve(first, "Done", Doing("dana", rows.ADMIN, datetime.now(UTC)))
    browser.wait("document.querySelector('#alerts .row-status').textContent.includes('Resolved')", "resolved")
    assert browser.js("return window.sameDocument") is True
    assert browser.complaints() == []


def test_a_trigger_that_changes_no_alert_leaves_the_list_alone(browser: Browser, database: Database) -> None:
    browser.open("/alerts")
    browser.wait_live()
    browser.js(
        "window.told = 0; const ask = window.fetch; window.fetch = (...a) => { told += 1; return ask(...a); };"
        "window.heard = 0; const stream = new EventSource('/live/events');"
        "stream.addEventListener('change', () => { heard += 1; }); stream.onopen = () => { window.listens = true; };"
    )
    browser.wait("window.listens", "a second listener, who hears of everything at the same time")
    rows.insert_trigger(database, outcome="suppressed", at=datetime.now(UTC))
    browser.wait("heard === 1", "the trigger")
    assert browser.js("return told") == 0
    alert_id = rows.insert_alert(database, at=datetime.now(UTC))
    browser.wait(f"document.querySelector('[data-key=\"{alert_id}\"]') !== null", "the alert")
    assert browser.js("return told") == 1


def test_an_open_alert_follows_what_happens(browser: Browser, database: Database) -> None:
    alert_id = rows.insert_alert(database, at=datetime.now(UTC) - timedelta(minutes=2))
    browser.open(f"/alerts/{alert_id}")
    browser.wait_live()
    assert "Nobody has been told yet." in browser.text("#notifications")
    rows.insert_notification(database, alert_id, status="PENDING", at=datetime.now(UTC))
    browser.wait("document.getElementById('notifications').textContent.includes('Waiting')", "notification")
    note = browser.driver.find_element(By.ID, "note")
    note.send_keys("half a sentence")
    rows.NotedActions(database).dismiss(
        alert_id, DismissReason.OTHER, "Drill", Doing("dana", rows.ADMIN, datetime.now(UTC))
    )
    browser.wait("document.getElementById('head').textContent.includes('Dismissed')", "dismissed")
    assert note.get_attribute("value") == "half a sentence"
    assert "what you typed is kept" in browser.text("#actions")


def test_an_alert_is_acknowledged_snoozed_noted_and_sent_again_by_click(browser: Browser, database: Database) -> None:
    alert_id = rows.insert_alert(database, at=datetime.now(UTC) - timedelta(minutes=2))
    browser.open(f"/alerts/{alert_id}")
    for action, said in (("acknowledge", "Acknowledged"), ("snooze", "Snoozed"), ("resend", "queued")):
        browser.click(f"form[action$='/{action}'] button")
        browser.wait(f"document.querySelector('.flash-done')?.textContent.includes('{said}')", "answer")
    browser.driver.find_element(By.ID, "content").send_keys("@lee please watch")
    browser.click(".note-form button")
    browser.wait("document.querySelector('.mention') !== null", "note")
    assert "admin" in browser.text("#attention")
    assert "Snoozed until" in browser.text("#attention")
    assert "Sent again" in browser.text("#notifications")
    assert browser.complaints() == []


def test_the_document_of_the_api_is_shown_under_its_own_policy(browser: Browser) -> None:
    browser.open("/docs/api")
    browser.wait("document.querySelectorAll('.opblock').length > 20", "operations")
    assert "/api/v1/alerts" in browser.text("#swagger-ui")
    assert browser.complaints() == []


def test_resolving_by_click_asks_first(browser: Browser, database: Database) -> None:
    alert_id = rows.insert_alert(database, at=datetime.now(UTC) - timedelta(minutes=2))
    browser.open("/alerts")
    browser.click(f"#open-{alert_id}")
    note = browser.driver.find_element(By.ID, "note")
    note.send_keys("Blocked <b>the</b> range")
    browser.click("#actions .primary")
    assert browser.text("#confirm-text") == "Blocked <b>the</b> range"
    browser.click("dialog [value=no]")
    assert "Active" in browser.text("#head")
    browser.click("#actions .primary")
    browser.click("dialog [value=yes]")
    browser.wait("document.querySelector('.flash-done') !== null", "answer")
    assert "Resolved" in browser.text("#head")
    assert "Blocked <b>the</b> range" in browser.text("#actions")
    assert browser.complaints() == []


def test_dismissing_by_keyboard_alone(browser: Browser, database: Database) -> None:
    alert_id = rows.insert_alert(database, at=datetime.now(UTC) - timedelta(minutes=2))
    browser.open(f"/alerts/{alert_id}")
    browser.driver.find_element(By.ID, "note").send_keys(Keys.TAB, Keys.TAB, Keys.ENTER)  # unfold
    active = browser.driver.switch_to.active_element
    active.send_keys(Keys.TAB)
    browser.driver.switch_to.active_element.send_keys(Keys.SPACE)  # False positive
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)  # send
    browser.wait("document.getElementById('confirm').open", "dialog")
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("document.querySelector('.flash-done') !== null", "answer")
    assert "Dismissed" in browser.text("#head")
    assert "False positive" in browser.text("#actions")


def test_a_chart_that_cannot_be_had_leaves_a_word(
    browser: Browser, database: Database, charts: rows.FakeCharts
) -> None:
    charts.away = True
    alert_id = rows.insert_alert(database, at=datetime.now(UTC) - timedelta(minutes=2))
    browser.open(f"/alerts/{alert_id}")
    browser.js("document.querySelector('.chart').scrollIntoView()")
    browser.wait("!document.querySelector('.chart-missing').hidden", "word")
    assert "The chart cannot be drawn now" in browser.text(".chart-missing")
    browser.complaints()  # the browser itself notes the 503


def test_a_lost_stream_says_so_and_the_page_still_follows(
    browser: Browser, database: Database, site: tuple[str, Broadcaster]
) -> None:
    browser.open("/alerts")
    browser.wait_live()
    site[1].close()
    browser.wait("document.querySelector('.live-word').textContent === 'Reconnecting'", "word")
    alert_id = rows.insert_alert(database, at=datetime.now(UTC))
    browser.wait(f"document.querySelector('[data-key=\"{alert_id}\"]') !== null", "alert by asking again")
    browser.complaints()  # the browser itself notes the 503


def test_a_condition_is_added_tried_and_saved_by_click(browser: Browser, database: Database) -> None:
    rows.seed_attack(database, datetime.now(UTC))
    browser.open(EDITED)
    for number in (0, 1):
        browser.click("#add-row")
        active = browser.driver.switch_to.active_element
        assert active.get_attribute("name") == f"metric-{number}"
        active.send_keys("block_rate")
        browser.driver.find_element(By.ID, f"threshold-{number}").send_keys("90 %")
    browser.click("[data-row='0'] [data-remove]")
    browser.click("#try")
    browser.wait("document.getElementById('preview') !== null", "preview")
    assert "would not have been sent" in browser.text("#preview")
    assert "Block rate > 90 %" in browser.text("#preview .changes")
    assert browser.driver.find_element(By.ID, "threshold-1").get_attribute("value") == "90 %"
    browser.click("#save")
    browser.wait("document.querySelector('.flash-done') !== null", "answer")
    assert "Saved as version 1." in browser.text(".flash-done")
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#rows [data-row]")) == 1
    assert browser.js("return window.violations") == []
    assert browser.complaints() == []
