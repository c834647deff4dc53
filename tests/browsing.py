"""Headless Chromium for a test, and a server that serves a service to it."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
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
from preheat.http import create_app
from preheat.http.serving import listen, server_of

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
    """The address of a service that is served in a thread of its own until the end."""
    ready: Future[str] = Future()
    ending: list[Callable[[], None]] = []

    async def serve() -> None:
        async with make() as service:
            listening = listen("127.0.0.1", 0)
            server = server_of(create_app(service, **options))
            ending.append(lambda: setattr(server, "should_exit", True))
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
            ready.set_result(f"http://127.0.0.1:{listening.getsockname()[1]}")
            server.config.app.state.desk.is_closing = False
            await server.serve([listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield ready.result(WAIT_SECONDS)
    finally:
        for end in ending:
            end()
        thread.join(WAIT_SECONDS)
