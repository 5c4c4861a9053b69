"""Which web pages may call the API from a browser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from running_server import HTTP, Server, running

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
LISTED = ("https://page.example", "http://localhost:3000")
STRANGERS = ("https://other.example", "http://page.example", "https://page.example.evil.example", "null", "*", "")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a list of origins, one of which is the origin of sandboxed pages, and a key."""
    env = {"CORS_ORIGINS": ", ".join((*LISTED, "null")), "API_KEY": "key"}
    with running(tmp_path_factory.mktemp("listed"), "--engine", "fake", "--fake-rtf", "0", env=env) as one:
        yield one


def answers(url: str, origin: str) -> list[httpx.Response]:
    """A preflight, audio, and errors of several layers, as a page of an origin gets them."""
    origin_header = {"Origin": origin}
    with_key = {**origin_header, "X-API-Key": "key"}
    return [
        HTTP.options(f"{url}/api/tts", headers={**origin_header, **PREFLIGHT}),
        HTTP.post(f"{url}/api/tts", json={"text": "Hi."}, headers=with_key),
        HTTP.post(f"{url}/api/tts", content="{", headers=with_key),
        HTTP.get(f"{url}/nothing", headers=origin_header),
        HTTP.get(f"{url}/health", headers=origin_header),
    ]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key and no list of origins."""
    with running(
        tmp_path_factory.mktemp("keyed"), "--engine", "fake", "--fake-rtf", "0", env={"API_KEY": "key"}
    ) as one:
        yield one


@pytest.mark.parametrize("origin", ["https://page.example", "null"])
def test_keyed_server_allows_any_page_without_credentials(keyed: Server, origin: str) -> None:
    for answer in answers(keyed.url, origin):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", LISTED)
def test_listed_page_may_call(listed: Server, origin: str) -> None:
    for answer in answers(listed.url, origin):
        assert answer.headers["access-control-allow-origin"] == origin
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
    # Also the refusal of a key can be read by the page, or its author would see a network error.
    refused = HTTP.get(f"{listed.url}/api/voices", headers={"Origin": origin})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", STRANGERS)
def test_unlisted_and_null_origins_are_refused(listed: Server, origin: str) -> None:
    for answer in answers(listed.url, origin):
        assert "access-control-allow-origin" not in answer.headers


def test_preflight_needs_no_key_and_allows_what_clients_send(listed: Server) -> None:
    answer = HTTP.options(f"{listed.url}/api/tts", headers={"Origin": LISTED[0], **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"]


def test_pages_can_read_headers_of_audio(fake: Server) -> None:
    answer = HTTP.post(f"{fake.url}/api/tts", json={"text": "Hi."}, headers={"Origin": "http://localhost:3000"})
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    unread = ("x-accel-buffering", "x-content-type-options")
    own = {name for name in answer.headers if name.startswith("x-") and name not in unread}
    assert len(own) == 7
    assert own <= exposed
    # Those by which a client knows whether and when to ask again.
    assert {"retry-after", "x-should-retry"} <= exposed
