"""What is asked of a page, and of what is played in it."""

from __future__ import annotations

import time
from typing import Any

from running_server import Server
from selenium.webdriver import Chrome

LONG = "x" * 400
"""Half a minute of audio, which takes 19 seconds to make at a real-time factor of 0.8."""
HEARD = 1.0
"""Seconds that are listened to."""


def wait(browser: Chrome, script: str, *arguments: object, seconds: float = 20.0) -> Any:
    """What a script returns, once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := browser.execute_script(script, *arguments)):
        assert time.monotonic() < deadline, f"{script}\n{console_errors(browser)}"
        time.sleep(0.05)
    return found


def console_errors(browser: Chrome) -> list[str]:
    """What the page has had to say of errors since it was last asked: refused scripts, failed requests, exceptions."""
    lines = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]


def assert_plays_while_generated(browser: Chrome, server: Server) -> None:
    """Waits until the page's player has played for a while, when the answer must still be on its way."""
    script = (
        "const a = document.querySelector('audio'); return a.error ? a.error.message : a.currentTime > arguments[0]"
    )
    assert wait(browser, script, HEARD) is True
    assert server.metrics()["chatterbox_requests_running"] == 1
    assert not browser.execute_script("return document.querySelector('audio').ended")
