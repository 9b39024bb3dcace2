"""The status page in a real browser: its script runs under its own policy, and nothing overflows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import servers
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from served_site import FakeSite, serving
from servers import wait_for

from exporter.mapping.spec import DataWarning
from exporter.scheduler import Failure, SourceState
from exporter.status_page import Filter, status_page

pytestmark = pytest.mark.browser
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
LONG = "the server answered 403 Forbidden to GET https://metric-platform.example/api/v1/metrics/aggregated " * 4
WARNING = DataWarning("not_a_number", 12, "field rate: 'n/a' is no number")


def state(number: int) -> SourceState:
    name = f"payments_{number:03}_of_a_region_with_a_rather_long_name"
    failure = Failure(1.8e9 - 9, "denied", LONG)
    if number % 50 == 1:
        return SourceState(name, 30, attempts=1, failures=1, last_failure=failure)
    return SourceState(name, 30, attempts=1, series=9, last_warnings=(WARNING,) if number % 50 == 2 else ())


@dataclass
class Status(FakeSite):
    count: int = 500

    def status_page(self, shown: Filter) -> str:
        states = [state(number) for number in range(self.count)]
        types = {each.name: "database" for each in states}
        return status_page(states, types, wall=1.8e9, monotonic=1000, version="1", shown=shown)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = servers.program("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('status')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(servers.program("chromedriver")))
    yield driver
    driver.quit()


def rows(driver: webdriver.Chrome) -> int:
    return int(driver.execute_script("return document.querySelectorAll('tbody tr').length"))


def complaints(driver: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if "favicon" not in entry["message"]]


def test_typing_searches_and_a_state_filters(driver: webdriver.Chrome) -> None:
    with serving(Status()) as own:
        driver.get(own.url)
        assert rows(driver) == 500
        assert driver.title == "10 failing · Sentinel exporter"
        field = driver.find_element(By.NAME, "q")
        field.send_keys("payments_01")
        wait_for(lambda: rows(driver) == 10, what="found while typing", timeout=60)
        assert driver.switch_to.active_element.get_attribute("name") == "q"
        assert driver.current_url == f"{own.url}/?q=payments_01"
        driver.get(f"{own.url}/")
        driver.find_element(By.PARTIAL_LINK_TEXT, "failing").click()
        wait_for(lambda: rows(driver) == 10, what="only failing ones", timeout=60)
        driver.find_element(By.TAG_NAME, "summary").click()
        assert LONG.strip() in driver.find_element(By.TAG_NAME, "details").text
        assert complaints(driver) == []


@pytest.mark.parametrize("count", [3, 60])
def test_nothing_overflows(driver: webdriver.Chrome, count: int) -> None:
    with serving(Status(count=count)) as own:
        for width in (360, 800, 1280):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(own.url)
            over = driver.execute_script(
                "return [document.documentElement.scrollWidth - innerWidth,"
                " ...[...document.querySelectorAll('.frame')].map(each => each.scrollWidth - each.clientWidth)]"
            )
            assert max(over) <= 0, width
        assert complaints(driver) == []
