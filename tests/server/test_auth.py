"""Keys: where they are carried, what they open, and that they stay secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from audio_helpers import refusal
from running_server import HTTP, Server, StartServer, running

FAKE = ("--engine", "fake", "--fake-rtf", "0")
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
KEYS = ("first-key", "second-key", "third-key", "fourth-key", "fifth-key", "sixth-key")
GUARDED = [
    ("POST", "/api/tts"),
    ("GET", "/api/voices"),
    ("POST", "/api/voices/upload"),
    ("GET", "/api/voice/default"),
    ("POST", "/api/voice/default"),
    ("DELETE", "/api/voice/default"),
    ("GET", "/ws/tts"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys from every source."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "keys").write_text("third-key\n\n fourth-key \n")
    (folder / "tokens").write_text("fifth-key")
    env = {"API_KEY": "first-key, second-key", "API_TOKEN": "sixth-key", "API_TOKEN_FILE": "tokens"}
    with running(folder, *FAKE, "--api-key-file", "keys", env=env) as one:
        yield one


def carriers(key: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Headers and query parameters that carry a key."""
    return [
        ({"Authorization": f"Bearer {key}"}, {}),
        ({"Authorization": f"bearer {key}"}, {}),
        ({"X-API-Key": key}, {}),
        ({"xi-api-key": key}, {}),
        ({"Sec-WebSocket-Protocol": f"chat, api-key.{key}"}, {}),
        ({}, {"api_key": key}),
        ({}, {"token": key}),
    ]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_accepted_in_every_place(locked: Server, key: str) -> None:
    for headers, query in carriers(key):
        answer = HTTP.get(f"{locked.url}/api/voices", headers=headers, params=query)
        assert answer.status_code == 200, (headers, query)


@pytest.mark.parametrize("key", ["x", "first-ke", "first-key2", "First-Key", "first-key;second-key", "*", "Bearer"])
def test_wrong_key_is_refused_everywhere(locked: Server, key: str) -> None:
    missing = refusal(HTTP.get(f"{locked.url}/api/voices"), 401, "UNAUTHORIZED")
    words = set()
    for headers, query in carriers(key):
        answer = HTTP.get(f"{locked.url}/api/voices", headers=headers, params=query)
        words.add(refusal(answer, 401, "UNAUTHORIZED"))
        assert answer.headers["www-authenticate"] == "Bearer"
    # The same words for each: nothing tells how near a guess was. They are not those for no key at all.
    assert len(words) == 1
    assert missing not in words
    assert "api_key" not in missing


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_route_but_probes_needs_key(locked: Server, method: str, path: str) -> None:
    refusal(HTTP.request(method, locked.url + path), 401, "UNAUTHORIZED")
    opened = HTTP.request(method, locked.url + path, headers={"X-API-Key": "first-key"})
    assert opened.status_code not in (401, 403, 404, 405)


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_probes_need_no_key(locked: Server, path: str) -> None:
    assert HTTP.get(locked.url + path).status_code == 200
    assert HTTP.get(locked.url + path, headers={"X-API-Key": "wrong"}).status_code == 200


def test_websocket_handshake_with_key_is_accepted_and_names_its_protocol(locked: Server) -> None:
    protocol = "api-key.second-key"
    with HTTP.stream(
        "GET", f"{locked.url}/ws/tts", headers={**HANDSHAKE, "Sec-WebSocket-Protocol": protocol}
    ) as answer:
        assert answer.status_code == 101
        assert answer.headers["sec-websocket-protocol"] == protocol
    wrong = {**HANDSHAKE, "Sec-WebSocket-Protocol": "api-key.wrong"}
    refusal(HTTP.get(f"{locked.url}/ws/tts", headers=wrong), 401, "UNAUTHORIZED")


def listening_on(server: Server) -> set[str]:
    """The addresses on which a server listens."""
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def test_keyless_server_is_loopback_only(fake: Server, locked: Server, server: StartServer) -> None:
    assert listening_on(fake) == {"127.0.0.1"}
    assert "everybody" not in fake.log(), "an alarm on the loopback"
    assert listening_on(locked) == {"0.0.0.0"}
    assert "everybody" not in locked.log()
    exposed = server(*FAKE, "--host", "0.0.0.0")
    assert "WARN chatterbox_server::server: no API_KEY is set, and 0.0.0.0" in exposed.log()
    assert "everybody" in exposed.log()
    given = server(*FAKE, "--host", "127.0.0.2", "--api-key", "k", wait=False)
    given.wait_listening()
    assert listening_on(given) == {"127.0.0.2"}


def test_missing_key_file_refuses_to_start(server: StartServer, tmp_path: Path) -> None:
    one = server(*FAKE, "--api-key-file", str(tmp_path / "none"), wait=False)
    assert one.wait_exit() == 1
    assert "keys cannot be read" in one.log()


CANARIES = ("canary-right-key", "canary-token-key", "canary-file-key")


def test_keys_are_never_logged(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(CANARIES[2])
    env = {"API_KEY": CANARIES[0], "API_KEY_FILE": str(tmp_path / "keys"), "RUST_LOG": "trace"}
    one = server(*FAKE, "--api-token", CANARIES[1], env=env)
    answers = []
    for key in (*CANARIES, "canary-wrong-key"):
        for headers, query in carriers(key):
            for method, path in [*GUARDED[:4], ("GET", "/nothing"), ("GET", "/health"), ("POST", "/metrics")]:
                answers.append(HTTP.request(method, one.url + path, headers=headers, params=query))
        answers.append(HTTP.get(f"{one.url}/api/voices?x=1&api%5Fkey={key}&%74oken={key}"))
        answers.append(HTTP.get(f"{one.url}/api/voices?api_key={key.replace('-', '%2D')}"))
        with HTTP.stream("GET", f"{one.url}/ws/tts?token={key}", headers=HANDSHAKE):
            pass
    assert one.stop() == 0
    assert "[key]" in one.log()
    assert len(one.log().splitlines()) > len(answers)
    for text in (one.log(), one.stdout(), *(answer.text for answer in answers)):
        assert "canary" not in text.lower()
