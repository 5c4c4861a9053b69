"""Fixtures: a headless Chromium, and servers for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from running_server import Server, running
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

MISSING = (
    "{} is not there: install Chromium and its driver (Debian: apt-get install chromium chromium-driver), "
    "or name it in the variable {}"
)
FLAGS = (
    "--headless=new",
    # Its sandbox does not start for root, nor in most containers. It opens pages of this server alone.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # A page that was left is unloaded, and its requests with it. Foreign pages reach this machine's addresses, as in
    # browsers that do not guard them: the server must refuse by itself.
    "--disable-features=BackForwardCache,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
)


def program(variable: str, *names: str) -> str:
    """The path of a program that a variable names, or that is found; a failure that says what is missing."""
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(MISSING.format(names[0], variable), pytrace=False)
    return found


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, which all tests share."""
    options = ChromeOptions()
    options.binary_location = program("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    driver = program("CHROMEDRIVER", "chromedriver")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    browser.set_script_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[Chrome]:
    """The browser on an empty page, without what it said of earlier ones."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    yield chromium
    chromium.get("about:blank")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that speaks a little faster than it is listened to."""
    with running(tmp_path_factory.mktemp("steady"), "--engine", "fake", "--fake-rtf", "0.8") as one:
        yield one
