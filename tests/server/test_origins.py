"""Web pages of other origins: what they may do with a server that asks for no key, and with one that does."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping

import pytest
from running_server import Server, StartServer, running

FAKE = ("--engine", "fake", "--fake-rtf", "0")
EVIL = "https://evil.example"
PAGE = "https://page.example"
HEALTH = ("/health", "/livez", "/readyz", "/ping")
SPEECH = json.dumps({"text": "Hi."}).encode()
UPLOAD = b'--X\r\nContent-Disposition: form-data; name="text"\r\n\r\nHi.\r\n--X--\r\n'
JSON, FORM = "application/json", "multipart/form-data; boundary=X"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ROUTES: list[tuple[str, str, dict[str, str], bytes]] = [
    ("POST", "/api/tts", {"Content-Type": JSON}, SPEECH),
    ("POST", "/api/tts", {"Content-Type": "text/plain"}, SPEECH),
    ("POST", "/api/tts", {"Content-Type": FORM}, UPLOAD),
    ("POST", "/tts", {"Content-Type": FORM}, UPLOAD),
    ("POST", "/tts", {"Content-Type": "application/x-www-form-urlencoded"}, b"text=Hi."),
    ("POST", "/v1/audio/speech", {"Content-Type": JSON}, SPEECH),
    ("GET", "/tts/generate?text=Hi.", {}, b""),
    ("GET", "/", {}, b""),
    ("GET", "/docs", {}, b""),
    ("GET", "/openapi.json", {}, b""),
    ("GET", "/assets/page.js", {}, b""),
    ("GET", "/api/voices", {}, b""),
    ("GET", "/v1/models", {}, b""),
    ("GET", "/metrics", {}, b""),
    ("GET", "/system-status", {}, b""),
    ("GET", "/nothing", {}, b""),
    ("HEAD", "/api/voices", {}, b""),
    ("OPTIONS", "/api/voices/anna.wav", {"Access-Control-Request-Method": "DELETE"}, b""),
    ("DELETE", "/api/voices/none", {}, b""),
    ("DELETE", "/api/voice/default", {}, b""),
    ("PATCH", "/api/voices/none", {"Content-Type": JSON}, b"{}"),
    ("POST", "/api/voice/default", {"Content-Type": "text/plain"}, b'{"voice_path": "none"}'),
    ("GET", "/ws/tts", UPGRADE, b""),
]
FOREIGN: list[dict[str, str]] = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a key that lists a page and a name, written as people write them."""
    env = {"CORS_ORIGINS": "HTTPS://Page.Example/, null", "ALLOWED_HOSTS": "TTS.example,other.example"}
    with running(tmp_path_factory.mktemp("listed"), *FAKE, env=env) as one:
        yield one


def ask(
    one: Server, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, host: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of an answer to exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        sent = {"Host": host or f"127.0.0.1:{one.port}", "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, b"" if answer.status == 101 else answer.read()
    finally:
        connection.close()


def raw(one: Server, request: bytes) -> bytes:
    """The first line of an answer to these bytes."""
    with socket.create_connection(("127.0.0.1", one.port), 20) as client:
        client.sendall(request)
        return client.makefile("rb").readline()


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda headers: " ".join(headers.values()) or "empty")
def test_foreign_pages_are_refused_on_every_route_without_key(listed: Server, foreign: dict[str, str]) -> None:
    for method, path, headers, body in ROUTES:
        status, answered, text = ask(listed, method, path, {**headers, **foreign}, body)
        assert status == 403, (method, path)
        assert "access-control-allow-origin" not in answered
        assert method == "HEAD" or b"CORS_ORIGINS" in text, (method, path)
    for path in HEALTH:
        assert ask(listed, "GET", path, foreign)[0] == 200


@pytest.mark.parametrize(
    "origin", [PAGE, "http://localhost:3000", "http://localhost", "http://127.0.0.1:8000", "http://[::1]:5173", None]
)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_listed_and_loopback_pages_may_call_without_key(listed: Server, origin: str | None, site: str) -> None:
    own = f"http://127.0.0.1:{listed.port}"
    page = {"Origin": origin or own, "Sec-Fetch-Site": site}
    for method, path, headers, body in ROUTES:
        status, answered, _ = ask(listed, method, path, {**headers, **page}, body)
        assert status not in (403, 421), (method, path)
        if status != 101:
            assert answered["access-control-allow-origin"] == page["Origin"]
            assert "origin" in answered["vary"]
            assert "access-control-allow-credentials" not in answered


def test_requests_of_own_page_and_of_programs_are_served(listed: Server) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert ask(listed, "GET", "/tts/generate?text=Hi.", headers)[0] == 200
        assert ask(listed, "GET", "/api/voices", headers)[0] == 200


def test_same_site_is_trusted_on_loopback_alone(listed: Server) -> None:
    """To a browser all ports and subdomains of a name are one site, whose elements send no ``Origin``."""
    for host, status in (("localhost:8081", 200), ("127.0.0.1", 200), ("[::1]", 200), ("192.168.3.4", 403)):
        for sites in ("same-site", "same-origin, same-site"):
            headers = {"Sec-Fetch-Site": sites, "Sec-Fetch-Mode": "no-cors"}
            found = ask(listed, "GET", "/tts/generate?text=Hi.", headers, host=host)[0]
            assert found == (status if sites == "same-site" else 403), (host, sites)
    assert ask(listed, "GET", "/api/voices", {"Sec-Fetch-Site": "same-site"}, host="tts.example")[0] == 403


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_link_from_another_site_opens_pages(listed: Server, path: str) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(listed, "GET", path, link)[0] == 200
    assert ask(listed, "POST", path, link)[0] == 403
    assert ask(listed, "GET", "/api/voices", link)[0] == 403
    assert ask(listed, "GET", "/tts/generate?text=Hi.", link)[0] == 403


OWN_HOSTS = ("127.0.0.1", "192.168.3.4:81", "[::1]:8081", "[fd00::7]", "localhost:9", "LOCALHOST", "a.localhost")
FOREIGN_HOSTS = ("evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.nip.io", "x")


def test_keyless_server_checks_host(listed: Server) -> None:
    machine = socket.gethostname()
    for host in (*OWN_HOSTS, "tts.example", "Other.Example.:8081", machine, machine.upper()):
        assert ask(listed, "GET", "/api/voices", {}, host=host)[0] == 200, host
    for host in FOREIGN_HOSTS:
        for method, path, headers, body in ROUTES:
            status, _, text = ask(listed, method, path, headers, body, host=host)
            assert status == 421, (host, method, path)
            assert method == "HEAD" or b"ALLOWED_HOSTS" in text
        # A rebinding page is of the same origin as what it asks.
        assert ask(listed, "POST", "/api/tts", {"Origin": f"http://{host}"}, SPEECH, host=host)[0] == 421
        for path in HEALTH:
            assert ask(listed, "GET", path, {}, host=host)[0] == 200
    absolute = b"GET http://evil.example/api/voices HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert raw(listed, absolute).startswith(b"HTTP/1.1 421")


def test_request_names_one_host(listed: Server) -> None:
    for hosts in (
        b"",
        b"Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n",
        b"Host: a b\r\n",
        b"Host: u@localhost\r\n",
        b"Host:\r\n",
    ):
        request = b"GET /livez HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n"
        assert raw(listed, request).startswith(b"HTTP/1.1 400"), hosts
    assert raw(listed, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")


def test_keyed_server_accepts_any_origin_and_host(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "key"})
    key = {"X-API-Key": "key"}
    for origin in (EVIL, "null"):
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}):
            status, answered, _ = ask(one, "GET", "/api/voices", {"Origin": origin, **key, **headers})
            assert (status, answered["access-control-allow-origin"]) == (200, "*")
            assert "access-control-allow-credentials" not in answered
        assert ask(one, "GET", "/ws/tts", {"Origin": origin, **key, **UPGRADE})[0] == 101
        assert ask(one, "GET", "/api/voices", {"Origin": origin})[0] == 401
    assert ask(one, "GET", "/api/voices", key, host="evil.example")[0] == 200


def test_keyed_server_with_list_refuses_other_sockets(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "key", "CORS_ORIGINS": PAGE})
    for origin, status in ((PAGE, 101), (f"http://127.0.0.1:{one.port}", 101), (EVIL, 403), ("null", 403)):
        assert ask(one, "GET", "/ws/tts", {"Origin": origin, "X-API-Key": "key", **UPGRADE})[0] == status


def test_wildcard_origin_allows_every_page(server: StartServer) -> None:
    one = server(*FAKE, env={"CORS_ORIGINS": "*"})
    status, answered, _ = ask(one, "GET", "/api/voices", {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"})
    assert (status, answered["access-control-allow-origin"]) == (200, "*")
    assert ask(one, "GET", "/api/voices", {}, host="evil.example")[0] == 421
    assert "every web page may use this server" in one.log()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ORIGINS", "page.example"),
        ("CORS_ORIGINS", "https://page.example/path"),
        ("CORS_ORIGINS", "https://*.example"),
        ("ALLOWED_HOSTS", "http://tts.example"),
        ("ALLOWED_HOSTS", "tts.example:8081"),
    ],
)
def test_malformed_origins_are_refused(server: StartServer, name: str, value: str) -> None:
    one = server(*FAKE, env={name: value}, wait=False)
    assert one.wait_exit() == 2
    assert name in one.log()
    assert value in one.log()


JSON_ROUTES = [
    ("POST", "/api/tts", SPEECH),
    ("POST", "/tts/generate", SPEECH),
    ("POST", "/v1/audio/speech", SPEECH),
    ("POST", "/api/voice/default", b'{"voice_path": "none"}'),
    ("PATCH", "/api/voices/none", b"{}"),
    ("POST", "/v1/audio/voice_consents/none", b'{"name": "x"}'),
]


@pytest.mark.parametrize(("method", "path", "body"), JSON_ROUTES)
def test_json_is_read_only_under_its_content_type(listed: Server, method: str, path: str, body: bytes) -> None:
    expected = ask(listed, method, path, {}, body)[0]
    assert expected in (200, 404)
    for kind in (JSON, "Application/JSON; charset=utf-8", "application/vnd.x+json"):
        assert ask(listed, method, path, {"Content-Type": kind}, body)[0] == expected, kind
    for kind in ("text/plain", "application/x-www-form-urlencoded", FORM, "text/json", ""):
        status, _, text = ask(listed, method, path, {"Content-Type": kind}, body)
        # OpenAI's errors have fewer statuses.
        assert status in (415, 400), kind
        assert b"application/json" in text
