"""The programs of the pages that are for a browser, run as they are printed."""

from __future__ import annotations

import pytest
from browser_helpers import console_errors, wait
from documents import ADDRESS, Block, blocks
from running_server import Server
from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser

BLOCKS = [block for block in blocks() if block.mark == "browser"]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_snippet_collects_all_samples(block: Block, steady: Server, browser: Chrome) -> None:
    browser.get(steady.url)
    code = block.code.replace(ADDRESS.replace("http", "ws"), steady.url.replace("http", "ws"))
    assert steady.url.replace("http", "ws") in code
    # What it logs at the end is what it has of the answer.
    browser.execute_script(
        f"console.log = (...figures) => {{ window.figures = figures; }};\n{code}\nwindow.samples = samples;"
    )
    seconds, first_audio = wait(browser, "return window.figures")
    assert first_audio > 0
    collected = browser.execute_script("return window.samples.reduce((sum, chunk) => sum + chunk.length, 0)")
    assert collected == round(seconds * 24_000) > 10_000
    assert not console_errors(browser)
