"""A browser plays what the server says while it is still being said."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from browser_helpers import LONG, assert_plays_while_generated, console_errors, wait
from running_server import Server
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _alone(browser: Chrome, steady: Server) -> Iterator[None]:
    """Each test begins and ends with nothing being spoken: leaving the page ends what it plays."""
    steady.wait_metric("chatterbox_requests_running", 0)
    yield
    browser.get("about:blank")
    steady.wait_metric("chatterbox_requests_running", 0)


def choose(browser: Chrome, **values: str) -> None:
    """Sets the demo page's lists, once they are filled."""
    wait(browser, "return document.forms[0].elements.model.options.length")
    for name, value in values.items():
        Select(browser.find_element(By.NAME, name)).select_by_value(value)


def speak(browser: Chrome, text: str) -> None:
    """Fills in the demo page's text and sends it."""
    area = browser.find_element(By.NAME, "text")
    area.clear()
    area.send_keys(text)
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()


@pytest.mark.parametrize("form", ["mp3", "wav", "webm", "opus", "flac", "aac"])
def test_audio_element_plays_url(browser: Chrome, steady: Server, form: str) -> None:
    browser.get(f"{steady.url}/livez")
    query = urlencode({"text": LONG, "format": form})
    script = """
        const audio = document.createElement("audio");
        audio.src = arguments[0];
        document.body.append(audio);
        audio.play();
    """
    browser.execute_script(script, f"/tts/generate?{query}")
    assert_plays_while_generated(browser, steady)


@pytest.mark.parametrize("form", ["fmp4", "webm", "mp3"])
def test_page_plays_through_media_source_extensions(browser: Chrome, steady: Server, form: str) -> None:
    browser.get(steady.url)
    choose(browser, format=form)
    speak(browser, LONG)
    assert_plays_while_generated(browser, steady)
    assert browser.execute_script("return document.querySelector('audio').src").startswith("blob:")
    assert console_errors(browser) == []


@pytest.mark.parametrize("form", ["fmp4", "webm"])
def test_page_plays_to_end(browser: Chrome, steady: Server, form: str) -> None:
    browser.get(steady.url)
    choose(browser, format=form)
    speak(browser, "x" * 25)
    assert wait(browser, "const a = document.querySelector('audio'); return a.ended && a.duration") == pytest.approx(
        1.5, abs=0.1
    )
    assert browser.find_element(By.ID, "status").get_attribute("data-state") == "arrived"
    assert console_errors(browser) == []


@pytest.mark.parametrize("refusal", ["", "NotAllowedError"])
def test_page_plays_without_media_source_extensions(browser: Chrome, steady: Server, refusal: str) -> None:
    """As on an iPhone, whose browser may refuse to start by itself what has taken long to arrive."""
    source = "delete window.MediaSource; delete window.ManagedMediaSource;"
    if refusal:
        source += f"""
            HTMLMediaElement.prototype.play = async () => {{ throw new DOMException("no", "{refusal}"); }};
        """
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        browser.get(steady.url)
        choose(browser, format="mp3")
        speak(browser, "x" * 25)
        played = "a.duration" if refusal else "a.ended && a.duration"
        length = wait(browser, f"const a = document.querySelector('audio'); return {played}")
        assert length == pytest.approx(1.5, abs=0.15)
        wait(browser, "return document.getElementById('status').dataset.state === 'arrived'")
        assert browser.execute_script("return document.querySelector('audio').src").startswith("blob:")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


@pytest.mark.parametrize("form", ["flac", "opus", "wav"])
def test_page_plays_other_formats_once_complete(browser: Chrome, steady: Server, form: str) -> None:
    browser.get(steady.url)
    choose(browser, format=form)
    speak(browser, "x" * 25)
    assert wait(browser, "const a = document.querySelector('audio'); return a.ended && a.duration") == pytest.approx(
        1.5, abs=0.1
    )
    assert browser.execute_script("return document.querySelector('audio').src").startswith("blob:")
    assert console_errors(browser) == []


def test_stopping_ends_request(browser: Chrome, steady: Server) -> None:
    browser.get(steady.url)
    choose(browser, format="fmp4")
    speak(browser, LONG)
    assert_plays_while_generated(browser, steady)
    browser.find_element(By.ID, "stop").click()
    steady.wait_metric("chatterbox_requests_running", 0, seconds=5)


def test_second_text_replaces_first(browser: Chrome, steady: Server) -> None:
    browser.get(steady.url)
    choose(browser, format="fmp4")
    speak(browser, LONG)
    assert_plays_while_generated(browser, steady)
    speak(browser, "x" * 25)
    assert wait(browser, "const a = document.querySelector('audio'); return a.ended && a.duration") == pytest.approx(
        1.5, abs=0.1
    )
    assert console_errors(browser) == []
