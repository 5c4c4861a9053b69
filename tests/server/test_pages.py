"""The pages' files and headers. What a browser makes of them is in ``tests/browser``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from running_server import HTTP, Server, running

VENDORED = Path(__file__).resolve().parents[2] / "rust-tts" / "http" / "assets" / "swagger-ui"
PAGES = ("/", "/docs")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants a key, which the pages do without."""
    with running(tmp_path_factory.mktemp("locked"), "--engine", "fake", env={"API_KEY": "secret"}) as one:
        yield one


class Page(HTMLParser):
    """What a page refers to, and what of it would be inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag in ("script", "style")
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.links.append(value)
            if name == "style" or name.startswith("on"):
                self.inline.append(name)

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


@pytest.mark.parametrize("path", PAGES)
def test_content_security_policy_allows_own_files_only(locked: Server, path: str) -> None:
    answer = HTTP.get(locked.url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert not {"script-src", "style-src", "connect-src"} & set(policy)
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert Page(answer.text).inline == []


@pytest.mark.parametrize("path", PAGES)
def test_page_assets_need_no_key(locked: Server, path: str) -> None:
    links = Page(HTTP.get(locked.url + path).text).links
    assert links
    for link in links:
        assert re.fullmatch(r"[a-z/.-]+", link), "of another server, or not beside the page"
        answer = HTTP.get(f"{locked.url}/{link}")
        assert answer.status_code == 200, link
        assert answer.headers["x-content-type-options"] == "nosniff"
        for module in re.findall(r'^import .* from "\./(.+)";$', answer.text, re.MULTILINE):
            assert HTTP.get(f"{locked.url}/assets/{module}").status_code == 200


def test_swagger_ui_is_unmodified(locked: Server) -> None:
    sums = re.findall(r"^ {4}([0-9a-f]{64})  (\S+)$", (VENDORED / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(sums) == 2
    for expected, name in sums:
        answer = HTTP.get(f"{locked.url}/assets/{name}")
        assert answer.headers["content-encoding"] == "gzip"
        assert hashlib.sha256(answer.content).hexdigest() == expected, name


@pytest.mark.parametrize("name", ["page.html", "README.md", "%2e%2e", "%2e%2e%2fopenapi.json", "%ff", "PAGE.JS"])
def test_unknown_asset_is_not_found(locked: Server, name: str) -> None:
    answer = HTTP.get(f"{locked.url}/assets/{name}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"detail", "code", "request_id"}
