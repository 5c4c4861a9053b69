"""The pages: the demo and the API's description. Nothing that a client can name is ever run in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from audio_helpers import clip
from browser_helpers import console_errors, wait
from running_server import HTTP, Server, finish, running
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

pytestmark = pytest.mark.browser

EVIL = '"><img src=x onerror="document.title=\'run\'"><script>document.title="run"</script>'
KEY = "secret"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants a key, with a voice whose name is markup."""
    with running(tmp_path_factory.mktemp("locked"), "--engine", "fake", "--fake-rtf", "0", env={"API_KEY": KEY}) as one:
        files = {"file": ("evil.wav", clip())}
        answer = HTTP.post(f"{one.url}/api/voices/upload", headers={"X-API-Key": KEY}, files=files, data={"name": EVIL})
        answer.raise_for_status()
        yield one


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[Server]:
    """A server whose models are being loaded for some seconds."""
    one = Server(tmp_path, ("--engine", "fake", "--fake-load-seconds", "4"), {})
    try:
        one.wait_listening()
        yield one
    finally:
        finish(one)


def status(browser: Chrome, state: str) -> str:
    """The page's words about how it goes, once it has come to a state."""
    script = "const s = document.getElementById('status'); return s.dataset.state === arguments[0]"
    wait(browser, script, state)
    return browser.find_element(By.ID, "status").text


def forget_status(browser: Chrome) -> None:
    """Clears what the page last said, so that the next thing that it says is waited for."""
    script = "const s = document.getElementById('status'); s.dataset.state = ''; s.textContent = ''"
    browser.execute_script(script)


def enter_key(browser: Chrome, key: str) -> None:
    """Types a key and leaves the field."""
    field = browser.find_element(By.NAME, "key")
    field.clear()
    field.send_keys(key, "\t")


def test_page_asks_for_key_and_hides_it(browser: Chrome, locked: Server) -> None:
    browser.get(locked.url)
    assert "key" in status(browser, "failed")
    forget_status(browser)
    enter_key(browser, "wrong")
    assert "key" in status(browser, "failed")
    enter_key(browser, KEY)
    assert status(browser, "ready") == ""
    kept = browser.execute_script("return [localStorage.length, sessionStorage.length, document.cookie, location.href]")
    assert kept == [0, 0, "", f"{locked.url}/"]


@pytest.mark.parametrize("form", ["webm", "fmp4", "mp3", "opus", "flac", "wav"])
def test_key_is_in_no_url(browser: Chrome, locked: Server, form: str) -> None:
    browser.get(locked.url)
    enter_key(browser, KEY)
    status(browser, "ready")
    Select(browser.find_element(By.NAME, "format")).select_by_value(form)
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    assert "first audio after" in status(browser, "arrived")
    assert wait(browser, "const a = document.querySelector('audio'); return a.currentTime > 0.2 && a.currentSrc")
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    addresses = [*browser.execute_script(script), browser.execute_script("return document.querySelector('audio').src")]
    assert any("tts/generate" in address for address in addresses)
    assert not any(KEY in address for address in addresses)
    assert KEY not in locked.log()


def test_page_opened_while_models_load_waits_for_them(browser: Chrome, loading: Server) -> None:
    browser.get(loading.url)
    assert "loaded" in status(browser, "loading")
    loading.wait_ready()
    assert status(browser, "ready") == ""
    assert wait(browser, "return document.forms[0].elements.model.options.length") == 1


def test_voice_name_with_markup_is_shown_as_text(browser: Chrome, locked: Server) -> None:
    browser.get(locked.url)
    enter_key(browser, KEY)
    labels = wait(browser, "return [...document.forms[0].elements.voice.options].map((o) => o.textContent).slice(1)")
    assert EVIL in labels
    assert browser.title == "chatterbox-server"
    assert browser.find_elements(By.CSS_SELECTOR, "img, body script") == []


def test_error_with_markup_is_shown_as_text(browser: Chrome, locked: Server) -> None:
    browser.get(locked.url)
    enter_key(browser, KEY)
    status(browser, "ready")
    # What a server might say, in each of the shapes that it says it in.
    for body in ("{detail: arguments[0]}", "{error: arguments[0]}", "{error: {message: arguments[0]}}"):
        script = f"""
            const answer = JSON.stringify({body});
            window.fetch = async () => new Response(answer, {{status: 422}});
            document.querySelector("button[type=submit]").click();
        """
        browser.execute_script(script, EVIL)
        assert status(browser, "failed") == EVIL
        assert browser.find_elements(By.CSS_SELECTOR, "img, body script") == []
        forget_status(browser)
    assert browser.title == "chatterbox-server"


def test_injected_markup_does_not_run(browser: Chrome, locked: Server) -> None:
    browser.get(locked.url)
    script = """
        document.body.insertAdjacentHTML("beforeend", arguments[0]);
        const script = document.createElement("script");
        script.textContent = "document.title = 'run'";
        document.body.append(script);
    """
    browser.execute_script(script, EVIL)
    refused: list[str] = []
    deadline = time.monotonic() + 20
    while len(refused) < 2:
        assert time.monotonic() < deadline, refused
        time.sleep(0.05)
        refused += [line for line in console_errors(browser) if "Content Security Policy" in line]
    assert browser.title == "chatterbox-server"


# The bare list is one of ids, which cannot be markup.
@pytest.mark.parametrize(
    ("path", "shown"), [("/api/voices", "onerror"), ("/voices", '["evil.wav"]'), ("/v1/audio/voices", "onerror")]
)
def test_response_with_markup_is_no_page(browser: Chrome, locked: Server, path: str, shown: str) -> None:
    browser.get(f"{locked.url}{path}?api_key={KEY}")
    assert browser.title == ""
    assert shown in browser.find_element(By.TAG_NAME, "body").text
    assert browser.find_elements(By.CSS_SELECTOR, "img, script") == []


FOREIGN_PAGE = 'data:text/html,<a href="{}/">the server</a>'
ATTEMPTS = """
    const [server, done] = arguments;
    const form = new FormData();
    form.append("text", "Hi.");
    const posts = [
      fetch(`${server}/tts`, {method: "POST", mode: "no-cors", body: form}),
      fetch(`${server}/api/tts`, {method: "POST", mode: "no-cors", body: '{"text": "Hi."}'}),
      fetch(`${server}/api/voices`).then(() => "read", () => "refused"),
      fetch(`${server}/api/voices/mine.wav`, {method: "DELETE"}).then(() => "deleted", () => "refused"),
      new Promise((resolve) => {
        const socket = new WebSocket(`${server.replace("http", "ws")}/ws/tts`);
        socket.onopen = () => resolve("open");
        socket.onerror = () => resolve("refused");
      }),
    ];
    Promise.all(posts).then((results) => done(results.slice(2)), (error) => done(String(error)));
"""


def test_foreign_page_can_only_link(browser: Chrome, steady: Server) -> None:
    HTTP.post(f"{steady.url}/api/voices/upload", files={"file": ("mine.wav", clip())}).raise_for_status()
    before = HTTP.get(f"{steady.url}/metrics?").text.count('route="')
    browser.get(FOREIGN_PAGE.format(steady.url))
    assert browser.execute_async_script(ATTEMPTS, steady.url) == ["refused", "refused", "refused"]
    assert steady.voice_files() == ["mine.wav"]
    assert HTTP.get(f"{steady.url}/metrics").text.count('route="') == before
    browser.find_element(By.TAG_NAME, "a").click()
    assert status(browser, "ready") == ""
    assert browser.title == "chatterbox-server"


def test_api_description_is_shown(browser: Chrome, locked: Server) -> None:
    browser.get(f"{locked.url}/docs")
    described = HTTP.get(f"{locked.url}/openapi.json").json()
    count = sum(len(set(item) - {"parameters"}) for item in described["paths"].values())
    wait(browser, "return document.querySelectorAll('.opblock').length === arguments[0]", count)
    assert described["info"]["title"] in browser.find_element(By.CSS_SELECTOR, ".info .title").text
    # Nothing was refused by the policy, and nothing came from elsewhere.
    assert console_errors(browser) == []
    script = "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)"
    assert set(browser.execute_script(script)) == {locked.url}
