"""Headless Chromium for a test, and the address of a page for it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from preheat import CacheWarmupService
from served import serving

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip
WAIT_SECONDS = 30


@contextlib.contextmanager
def chromium(*flags: str, scripts: bool = True) -> Iterator[webdriver.Chrome]:
    """A browser of its own; skips the test where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


def wait_for(browser: webdriver.Chrome, holds: Callable[[webdriver.Chrome], Any]) -> Any:
    """What `holds` gives once it is true; a part of the page may be brought anew while it is looked at."""
    ignored = [StaleElementReferenceException]
    return WebDriverWait(browser, WAIT_SECONDS, poll_frequency=0.05, ignored_exceptions=ignored).until(holds)


def text_of(browser: webdriver.Chrome, css: str) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, css).text)


def faults_of(browser: webdriver.Chrome) -> list[str]:
    """What the browser complained of, but for styles of plotly that it does without."""
    return [row["message"] for row in browser.get_log("browser") if "plotly.js" not in row["message"]]


@contextlib.contextmanager
def served(make: Callable[[], CacheWarmupService], **options: Any) -> Iterator[str]:
    """The address of the page of a service."""
    with serving(make, **options) as port:
        yield f"http://127.0.0.1:{port}"
