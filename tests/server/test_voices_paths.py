"""References that try to lead out of the voices folder: none does, none is opened, none comes back in the answer."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from audio_helpers import clip
from faults_helpers import FAKE, body, speak
from running_server import HTTP, Server, finish
from ws_helpers import talking

SECRET = "canary-7f3a.wav"
"""A sound voice file, but outside: whoever gets at it would be served."""
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000

RELATIVE = [
    f"../{SECRET}", f"../../outside/{SECRET}", f"../outside/{SECRET}", f"./../outside/{SECRET}",
    f"voices/../outside/{SECRET}", f"/app/voices/../outside/{SECRET}", f"./voices/../outside/{SECRET}",
    f"..//outside//{SECRET}", f"....//outside/{SECRET}", f"real.wav/../../outside/{SECRET}",
    f"voices/voices/../../outside/{SECRET}", f"x/../../outside/{SECRET}", f"..\\outside\\{SECRET}",
    f"..\\..\\outside\\{SECRET}", f"voices\\..\\outside\\{SECRET}", f"C:\\outside\\{SECRET}",
    f"%2e%2e/outside/{SECRET}", f"%2e%2e%2foutside%2f{SECRET}", f"..%2foutside%2f{SECRET}", f"..%5coutside%5c{SECRET}",
    f"%252e%252e%252foutside%252f{SECRET}", f"..%c0%afoutside%c0%af{SECRET}", f"..;/outside/{SECRET}",
    f"\uff0e\uff0e/outside/{SECRET}", f"..\u2215outside\u2215{SECRET}", f"..\u2044outside\u2044{SECRET}",
    f"folder/{SECRET}", f"voices/folder/{SECRET}", f"./folder/{SECRET}",
]  # fmt: skip
ODD = [
    "..", ".", "/", "./", "../", "//", "\\", "~", "-", "--", ".default", ".hidden.wav", "voices/", "voices/..",
    "/app/voices/", "folder", "link.wav", "voices/link.wav", "./link.wav", "link", "hard/../link.wav", "fifo.wav",
    "fifo", "dir.wav", "dir.wav/", "real.wav/", "real.wav/.", "real.wav\x00", f"real.wav\x00/../../outside/{SECRET}",
    "\x00", f"../outside/{SECRET}\x00.wav", "re\nal.wav", "real.wav\r\nx-injected: yes", "re\tal.wav",
    "real.wav::$DATA", "real.wav%00", "CON", "NUL.wav", "-rf.wav", "$HOME/real.wav", "`id`.wav", "$(id).wav",
    "|real.wav", "real.wav;id", "{real,fake}.wav", "*.wav", "re?l.wav", "[r]eal.wav", "a" * 300, "a" * 300 + ".wav",
    "../" * 100 + "etc/passwd", "é.wav", "r\u00e9al.wav", "real.wav\u202e", "\ufeffreal.wav", "/etc/passwd",
    "/proc/self/environ", "/dev/zero", "/dev/stdin", "/proc/self/fd/0", "file:///etc/passwd", "0" * 64,
]  # fmt: skip


class OpenWatch:
    """Tells whether a file of a folder, or the folder itself, has been opened, as the kernel saw it."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle: int = libc.inotify_init1(IN_NONBLOCK)
        assert self._handle >= 0
        assert libc.inotify_add_watch(self._handle, os.fsencode(folder), IN_OPEN) >= 0

    def opened(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._handle, 65_536))
        return False

    def close(self) -> None:
        os.close(self._handle)


class Trap:
    """A server beside a folder that it must not open, and a socket that it must not connect to."""

    def __init__(self, home: Path) -> None:
        outside = home / "outside"
        outside.mkdir()
        (outside / SECRET).write_bytes(clip(1))
        voices = home / "voices"
        (voices / "dir.wav").mkdir(parents=True)
        (voices / "real.wav").write_bytes(clip(2))
        (voices / "link.wav").symlink_to(outside / SECRET)
        (voices / "folder").symlink_to(outside)
        os.mkfifo(voices / "fifo.wav")
        self.server = Server(home, FAKE, {})
        self.server.wait_ready()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.outside = outside
        self.watch = OpenWatch(outside)

    def payloads(self) -> list[str]:
        """Every trick, those with this run's paths and ports too."""
        port = self.listener.getsockname()[1]
        absolute = [f"{self.outside}/{SECRET}", f"/{self.outside}/{SECRET}", f"file://{self.outside}/{SECRET}"]
        inside = [f"{self.server.voices}/../outside/{SECRET}", f"{self.server.voices}/folder/{SECRET}"]
        urls = [f"http://127.0.0.1:{port}/{SECRET}", f"//127.0.0.1:{port}/{SECRET}", f"ftp://127.0.0.1:{port}/{SECRET}"]
        urls += [f"http://127.0.0.1:{port}/real.wav", f"https://127.0.0.1:{port}/voices/real.wav"]
        return [*RELATIVE, *ODD, *absolute, *inside, *urls]

    def sprung(self) -> bool:
        """Whether anything outside was opened or connected to."""
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return True
        return self.watch.opened()

    def close(self) -> None:
        self.watch.close()
        self.listener.close()
        finish(self.server)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    one = Trap(tmp_path_factory.mktemp("trap"))
    yield one
    one.close()


Answer = tuple[int, str, str]
"""Status (0 where there is none), code, and the whole text."""


def by_speech(server: Server, path: str) -> Answer:
    response = speak(server, "Hello.", path)
    return response.status_code, "" if response.is_success else response.json()["code"], response.text


def by_default(server: Server, path: str) -> Answer:
    response = HTTP.post(server.url + "/api/voice/default", json={"voice_path": path})
    return response.status_code, response.json().get("code", ""), response.text


def by_message(server: Server, **fields: object) -> Answer:
    with talking(server) as talk:
        answer = talk.ask(**fields)
    return 0, answer.get("code", ""), json.dumps(answer, ensure_ascii=False)


def by_say(server: Server, path: str) -> Answer:
    return by_message(server, type="say", **body("Hello.", path))


def by_set_voice(server: Server, path: str) -> Answer:
    return by_message(server, type="set_voice", voice_path=path)


def by_connection_voice(server: Server, path: str) -> Answer:
    return by_message(server, type="set_voice", voice_path=path, scope="connection")


FIELDS = [by_speech, by_default, by_say, by_set_voice, by_connection_voice]
ROUTES = [
    ("GET", "/api/voices/{}"),
    ("PATCH", "/api/voices/{}"),
    ("DELETE", "/api/voices/{}"),
    ("GET", "/api/voices/{}/preview"),
    ("DELETE", "/voices/{}"),
    ("GET", "/v1/audio/voices/{}"),
    ("DELETE", "/v1/audio/voices/{}"),
    ("GET", "/v1/audio/voice_consents/{}"),
    ("POST", "/v1/audio/voice_consents/{}"),
    ("DELETE", "/v1/audio/voice_consents/{}"),
]


@pytest.mark.parametrize("ask", FIELDS)
def test_references_stay_inside_folder(trap: Trap, ask: Callable[[Server, str], Answer]) -> None:
    wrong: dict[str, Answer] = {}
    for payload in trap.payloads():
        status, code, text = ask(trap.server, payload)
        # A name may be repeated, a path may not.
        is_name = re.fullmatch(r"\w[\w ._-]*", payload.strip()) is not None
        echoed = payload.strip() in text and len(payload.strip()) > 3 and not is_name
        if (status, code) not in [(404, "VOICE_NOT_FOUND"), (0, "VOICE_NOT_FOUND")] or echoed or trap.sprung():
            wrong[payload] = (status, code, text[:200])
    assert not wrong
    assert HTTP.get(trap.server.url + "/api/voice/default").json() == {"default_voice": None}


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_route_paths_stay_inside_folder(trap: Trap, method: str, route: str) -> None:
    wrong: dict[str, object] = {}
    before = tree(trap.server.folder)
    trap.watch.opened()
    for payload in trap.payloads():
        segment = "".join(f"%{byte:02X}" for byte in payload.encode())
        response = HTTP.request(method, trap.server.url + route.format(segment), json={"name": "x"})
        echoed = payload.strip() in response.text and len(payload.strip()) > 3
        if response.status_code != 404 or echoed or trap.sprung():
            wrong[payload] = (response.status_code, response.text[:200])
    assert not wrong
    assert tree(trap.server.folder) == before


def test_renames_stay_inside_folder(trap: Trap) -> None:
    wrong: dict[str, object] = {}
    voices = trap.server.voices
    before = tree(trap.server.folder) | {voices / ".details"}
    for payload in trap.payloads():
        trap.watch.opened()
        response = HTTP.patch(trap.server.url + "/api/voices/real.wav", json={"id": payload})
        sprung = trap.sprung()
        name = response.json().get("id", "")
        fresh = tree(trap.server.folder) - before
        beside = {path for path in fresh if path.parent == voices / ".details"}
        # Some are names like any other.
        moved = response.status_code == 200 and fresh - beside <= {voices / name} and payload in (name, name[:-4])
        if not (moved or (response.status_code in (409, 422) and not fresh)) or sprung:
            wrong[payload] = (response.status_code, response.text[:200], fresh)
        if response.status_code == 200:
            HTTP.patch(f"{trap.server.url}/api/voices/{name}", json={"id": "real.wav"}).raise_for_status()
    assert not wrong
    trap.watch.opened()


def test_file_watch_sees_open_file(trap: Trap) -> None:
    assert not trap.sprung()
    (trap.outside / SECRET).read_bytes()
    assert trap.sprung()


def test_folder_voices_are_found_by_usual_names(trap: Trap) -> None:
    usual = [
        "real.wav",
        "real",
        "voices/real.wav",
        "./voices/real.wav",
        "/app/voices/real.wav",
        f"{trap.server.voices}/real.wav",
    ]
    for ask in (by_speech, by_connection_voice):
        assert [name for name in usual if ask(trap.server, name)[1]] == []


def upload_as(
    server: Server, file_name: bytes, path: str = "/api/voices/upload", part: bytes = b"file"
) -> httpx.Response:
    """Uploads under a name that no client library would send."""
    disposition = b"--cut\r\ncontent-disposition: form-data; name="
    said = b"".join(disposition + field + b"\r\n\r\nen\r\n" for field in (b'"name"', b'"language"'))
    head = said + disposition + b'"' + part + b'"; filename="' + file_name + b'"\r\n\r\n'
    content = head + clip(3) + b"\r\n--cut--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=cut"}
    return HTTP.post(server.url + path, content=content, headers=kind)


def tree(home: Path) -> set[Path]:
    """Everything but the logs, links not followed."""
    found = (Path(folder) / name for folder, folders, files in os.walk(home) for name in folders + files)
    return {path for path in found if path.name not in ("stdout.txt", "stderr.txt")}


UPLOADS = [
    ("/api/voices/upload", b"file"),
    ("/voices", b"file"),
    ("/voices/register", b"voice_file"),
    ("/v1/audio/voices", b"audio_sample"),
    ("/v1/audio/voice_consents", b"recording"),
]


@pytest.mark.parametrize(("path", "part"), UPLOADS)
def test_uploads_stay_inside_folder(trap: Trap, path: str, part: bytes) -> None:
    wrong: dict[str, object] = {}
    voices, secret = trap.server.voices, (trap.outside / SECRET).read_bytes()
    own = [voices / ".details", voices / ".consents"]
    for payload in trap.payloads():
        before = tree(trap.server.folder)
        trap.watch.opened()
        response = upload_as(trap.server, payload.replace("\r\n", "\n").encode(), path, part)
        sprung = trap.sprung()
        fresh = tree(trap.server.folder) - before - set(own)
        beside = {file for file in fresh if file.parent in own}
        # A browser may send a path, of which the last part counts: that is stored, and here alone.
        name = response.json().get("filename", "")
        clips = [file for file in fresh if file.suffix != ".json"] or [voices / name]
        inside = {file.parent for file in fresh - beside} <= {voices} and len(clips) == 1 and len(fresh) <= 2
        stored = response.is_success and inside and clips[0].read_bytes() == clip(3)
        refused = response.status_code in (400, 409, 415, 422) and not fresh
        if not (stored or refused) or sprung:
            wrong[payload] = (response.status_code, response.text[:200], fresh)
        for file in fresh:
            file.unlink()
        (voices / "real.wav").write_bytes(clip(2))
    assert not wrong
    assert (voices / "link.wav").is_symlink()
    assert (voices / "fifo.wav").is_fifo()
    trap.watch.opened()
    assert (trap.outside / SECRET).read_bytes() == secret
