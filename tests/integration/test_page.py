"""The page in a real browser: a run that is started by a click and seen to progress; without scripts; for everybody."""

import json
import time
from pathlib import Path

import pytest

from browsing import By, chromium, faults_of, served, text_of, wait_for
from builders import batch, history_of
from preheat import CacheWarmupService
from preheat._store import SqliteStore
from preheat.adapters.mapping import MappingCache

axe = pytest.importorskip("selenium_axe_python", reason="selenium-axe-python is not installed")

ITEMS = 400
NAMED = "a secret page 7"


@pytest.fixture
def state(tmp_path):
    keys = [f"page {n}" for n in range(ITEMS)] + [NAMED] * 3
    loads = dict.fromkeys(keys, (4000, 0.02, "", ""))
    known = history_of(
        *(batch(keys, time.time() - 60 * (9 - n), "pages", hits=[n > 0] * len(keys), loads=loads) for n in range(3))
    )
    store = SqliteStore(tmp_path / "state")
    store.save(known)
    store.close()
    return tmp_path / "state"


def shop(state, seconds=0.01):
    def load(key):
        time.sleep(seconds)
        return key * 100

    def make():
        service = CacheWarmupService(state_dir=str(state), holdout_ratio=0.0, concurrency_limit=2)
        service.register(MappingCache({}, load=load, name="pages"))
        return service

    return make


def open_all(browser):
    for part in ("plan", "strategies", "history"):
        browser.find_element(By.CSS_SELECTOR, f"a.offer[data-part={part}]").click()
        wait_for(browser, lambda b, part=part: b.find_elements(By.CSS_SELECTOR, f"#{part} table"))


def test_a_run_that_a_click_started_is_seen_to_progress_to_pause_and_to_end(state):
    with served(shop(state)) as address, chromium() as browser:
        browser.get(address)
        wait_for(browser, lambda b: b.find_element(By.NAME, "start").is_enabled())
        browser.find_element(By.NAME, "start").click()
        wait_for(browser, lambda b: 0 < float(b.find_element(By.ID, "progress").get_attribute("value")) < 100)
        browser.find_element(By.NAME, "pause").click()
        wait_for(browser, lambda b: "paused" in text_of(b, "#state"))
        assert not browser.find_element(By.NAME, "start").is_enabled()
        browser.find_element(By.NAME, "continue").click()
        wait_for(browser, lambda b: "no run is active" in text_of(b, "#state"))
        wait_for(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#runs table"))
        assert "balanced" in text_of(browser, "#runs table")
        assert faults_of(browser) == []


def test_a_run_is_cancelled_and_a_refusal_is_said(state):
    with served(shop(state, seconds=0.05)) as address, chromium() as browser:
        browser.get(address)
        wait_for(browser, lambda b: b.find_element(By.NAME, "start").is_enabled())
        browser.find_element(By.NAME, "start").click()
        wait_for(browser, lambda b: b.find_element(By.NAME, "cancel").is_enabled())
        browser.execute_script("post('runs', {})")  # what a second person might click at that moment
        assert "active" in wait_for(browser, lambda b: text_of(b, "#said"))
        browser.find_element(By.NAME, "cancel").click()
        wait_for(browser, lambda b: "no run is active" in text_of(b, "#state"))
        wait_for(browser, lambda b: "cancelled" in text_of(b, "#runs"))


@pytest.mark.parametrize(("size", "scheme"), [("1200,1000", "light"), ("360,740", "dark")])
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_screen(state, scheme, size):
    flags = [f"--window-size={size}", *(["--force-dark-mode"] if scheme == "dark" else [])]
    with served(shop(state), show_keys=True) as address, chromium(*flags) as browser:
        browser.get(address)
        browser.execute_script(f"setTheme('{scheme}')")
        open_all(browser)
        wait_for(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".js-plotly-plot"))
        browser.execute_script((Path(axe.__file__).parent / "axe-core" / "axe.min.js").read_text("utf-8"))
        found = browser.execute_async_script("const end = arguments[0]; axe.run().then(end);")
        assert len(found["passes"]) > 20
        serious = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
        assert json.dumps([(each["id"], [n["html"][:200] for n in each["nodes"]]) for each in serious]) == "[]"
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_without_scripts_it_is_whole(state):
    with served(shop(state), show_keys=True) as address, chromium(scripts=False) as browser:
        browser.get(address)
        assert "no run is active" in text_of(browser, "#state")
        assert not browser.find_element(By.ID, "controls").is_displayed()
        browser.find_element(By.CSS_SELECTOR, "#history a").click()
        assert NAMED in text_of(browser, "#history")


def test_keys_are_shown_only_where_that_was_allowed(state):
    with served(shop(state)) as address, chromium() as browser:
        browser.get(address)
        open_all(browser)
        assert NAMED not in browser.page_source


def test_the_theme_is_chosen_by_keyboard_and_kept(state):
    with served(shop(state)) as address, chromium() as browser:
        browser.get(address)
        theme = browser.find_element(By.ID, "theme")
        theme.send_keys(" ")
        theme.send_keys(" ")
        assert theme.text == "Theme: dark"
        before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        browser.refresh()
        assert browser.find_element(By.ID, "theme").text == "Theme: dark"
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == before


def test_a_person_with_the_token_signs_in_and_it_is_in_no_address(state):
    token = "0123456789abcdef-token"
    with served(shop(state), token=token) as address, chromium() as browser:
        browser.get(address)
        browser.find_element(By.ID, "token").send_keys(token)
        browser.find_element(By.CSS_SELECTOR, "button").click()
        wait_for(browser, lambda b: b.find_elements(By.ID, "controls"))
        assert token not in browser.current_url
        wait_for(browser, lambda b: b.find_element(By.NAME, "start").is_enabled())  # events come with the cookie too


def test_a_report_is_a_page_of_its_own(state, tmp_path):
    import os
    import subprocess
    import sys

    command = [sys.executable, "-m", "preheat.cli", "report", "--state-dir", str(state), "--show-keys"]
    told = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "report.html: 0 runs, 1 caches\n")
    with chromium() as browser:
        browser.get(f"file://{tmp_path / 'report.html'}")
        wait_for(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".js-plotly-plot svg"))
        assert NAMED in text_of(browser, "#history")
        assert faults_of(browser) == []
