"""The voices folder when the disk is full, read-only or gone, and when the process dies in the middle of an upload."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
from audio_helpers import clip
from faults_helpers import FAKE, in_background, pitch_of, pitches, speak, upload, wait_until
from running_server import HTTP, WITHOUT_ROOTS_RIGHTS, Server, StartServer

UPLOADS = int(os.environ.get("VOICE_UPLOADS", "60"))
"""At least so many are acknowledged. What is acknowledged is a matter of chance; 500 take half a minute."""
KILLS = 4
WRITERS = 4
LARGEST_FILE = 80_000


def listed(server: Server) -> list[str]:
    """The ids of all voices."""
    voices = HTTP.get(server.url + "/api/voices").json()["voices"]
    return [voice["id"] for voice in voices]


def assert_failed(response: httpx.Response, status: int, code: str, folder: Path) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert str(folder) not in response.text


def test_full_disk_is_reported_and_leaves_no_file(server: StartServer) -> None:
    one = server(*FAKE)
    small, large = clip(1), clip(2, seconds=10.0)
    assert len(small) < LARGEST_FILE < len(large)
    assert upload(one, "mine.wav", small).status_code == 200
    # The kernel answers a write beyond this limit as it does one to a full disk, and sends a signal that kills.
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    for name in ("mine.wav", "other.wav"):
        assert_failed(upload(one, name, large), 507, "STORAGE_FULL", one.voices)
    assert one.voice_files() == ["mine.wav"]
    assert (one.voices / "mine.wav").read_bytes() == small
    assert listed(one) == ["mine.wav"]
    assert pitches(speak(one, "This is a text.", "mine.wav").content) == {pitch_of(small)}


LONG_ID = "b" * 120
"""Longer than everything that is said of a voice."""


@contextlib.contextmanager
def files_of_at_most(server: Server, size: int) -> Iterator[None]:
    """As on a disk with so little space left."""
    none = resource.RLIM_INFINITY
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, none))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (none, none))


def test_rename_that_fails_changes_nothing(server: StartServer) -> None:
    one = server(*FAKE)
    upload(one, "a.wav", clip(1)).raise_for_status()
    HTTP.patch(one.url + "/api/voices/a", json={"name": "Anna"}).raise_for_status()
    HTTP.post(one.url + "/api/voice/default", json={"voice_path": "a"}).raise_for_status()
    before = HTTP.get(one.url + "/api/voices").json()
    # What is said of the voice can be written; that the default has another id cannot.
    with files_of_at_most(one, 100):
        assert_failed(HTTP.patch(f"{one.url}/api/voices/a", json={"id": LONG_ID}), 507, "STORAGE_FULL", one.voices)
    for _ in range(2):
        assert HTTP.get(one.url + "/api/voices").json() == before
        assert HTTP.get(one.url + "/api/voice/default").json()["default_voice"] == "a.wav"
        one.stop()
        one = server(*FAKE, folder=one.folder)
    HTTP.patch(f"{one.url}/api/voices/a", json={"id": LONG_ID}).raise_for_status()
    (voice,) = HTTP.get(one.url + "/api/voices").json()["voices"]
    assert (voice["id"], voice["name"]) == (f"{LONG_ID}.wav", "Anna")
    assert HTTP.get(one.url + "/api/voice/default").json()["default_voice"] == f"{LONG_ID}.wav"
    upload(one, "a.wav", clip(2)).raise_for_status()
    assert HTTP.get(one.url + "/api/voice/default").json()["default_voice"] == f"{LONG_ID}.wav"


def test_voice_details_change_atomically(server: StartServer) -> None:
    one = server(*FAKE)

    def again(name: str) -> httpx.Response:
        files, said = {"file": ("a.wav", clip(1))}, {"name": name, "overwrite": "true"}
        return HTTP.post(one.url + "/voices", files=files, data=said)

    def name() -> str:
        (voice,) = HTTP.get(one.url + "/api/voices").json()["voices"]
        shown: str = voice["name"]
        return shown

    again("Anna").raise_for_status()
    with files_of_at_most(one, 10):
        assert_failed(again("Ben"), 507, "STORAGE_FULL", one.voices)
        assert_failed(HTTP.patch(one.url + "/api/voices/a", json={"name": "Ben"}), 507, "STORAGE_FULL", one.voices)
        assert name() == "Anna"
    # The same clip need not be written again.
    with files_of_at_most(one, 1000):
        again("Cleo").raise_for_status()
        assert name() == "Cleo"
    assert (one.voices / "a.wav").read_bytes() == clip(1)


def test_removed_folder_is_error_until_restored(server: StartServer) -> None:
    one = server(*FAKE)
    assert upload(one, "mine.wav", clip(1)).status_code == 200
    shutil.rmtree(one.voices)
    assert_failed(upload(one, "other.wav", clip(2)), 500, "GENERATION_ERROR", one.voices)
    default = HTTP.post(one.url + "/api/voice/default", json={"voice_path": "mine.wav"})
    assert default.status_code in (404, 500)
    assert HTTP.get(one.url + "/api/voices").status_code == 500
    assert speak(one, "The own voice needs no folder.").status_code == 200
    one.voices.mkdir()
    assert upload(one, "other.wav", clip(2)).status_code == 200
    assert listed(one) == ["other.wav"]


def test_file_that_no_id_can_name_is_a_warning(server: StartServer, tmp_path: Path) -> None:
    folder = tmp_path / "prepared" / "voices"
    folder.mkdir(parents=True)
    names = (b"anna (1).wav", "Müller.wav".encode(), b"bad\xff.wav", b"-x.mp3", b"a..b.wav")
    for name in (*names, b"kept.wav", b"notes (1).txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(clip())
    (folder / "away.wav").symlink_to(tmp_path / "nowhere.wav")
    one = server(*FAKE, folder=folder.parent)
    for _ in range(2):
        assert listed(one) == ["kept.wav"]
    warnings = [line for line in one.log().splitlines() if "skipping a file that is no voice" in line]
    assert len(warnings) == len(names) + 1
    for name in names:
        (line,) = (line for line in warnings if name.decode("utf-8", "replace") in line)
        assert "must begin with a letter or a digit" in line
    assert sum("away.wav" in line and "link" in line for line in warnings) == 1


def test_read_only_folder_serves_what_is_in_it(server: StartServer) -> None:
    one = server(*FAKE, prefix=WITHOUT_ROOTS_RIGHTS)
    assert upload(one, "mine.wav", clip(1)).status_code == 200
    (one.voices / "hand.wav").write_bytes(clip(3))
    HTTP.patch(one.url + "/api/voices/hand", json={"name": "Anna"}).raise_for_status()
    one.voices.chmod(0o555)
    try:
        assert_failed(upload(one, "other.wav", clip(2)), 500, "GENERATION_ERROR", one.voices)
        assert_failed(upload(one, "mine.wav", clip(2)), 500, "GENERATION_ERROR", one.voices)
        default = HTTP.post(one.url + "/api/voice/default", json={"voice_path": "mine.wav"})
        assert_failed(default, 500, "GENERATION_ERROR", one.voices)
        (one.voices / ".details").chmod(0o555)
        for name in ("Ben", None):
            patched = HTTP.patch(one.url + "/api/voices/hand", json={"name": name})
            assert_failed(patched, 500, "GENERATION_ERROR", one.voices)
        assert HTTP.get(one.url + "/api/voices/hand").json()["name"] == "Anna"
        assert pitches(speak(one, "This is a text.", "mine.wav").content) == {pitch_of(clip(1))}
        assert one.voice_files() == ["hand.wav", "mine.wav"]
    finally:
        (one.voices / ".details").chmod(0o755)
        one.voices.chmod(0o755)
    assert upload(one, "other.wav", clip(2)).status_code == 200


def test_unusable_folder_fails_startup_with_reason(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one = server(*FAKE, env={"VOICES_DIR": str(tmp_path / "file")}, wait=False)
    assert one.wait_exit() == 1
    assert f"VOICES_DIR {tmp_path / 'file'} cannot be used" in one.log()


class Uploads:
    """Uploads from several threads at once, until the server is killed; knows what the server has promised to keep."""

    def __init__(self) -> None:
        self.numbers = itertools.count(100)
        self.kept: dict[str, bytes] = {}
        self.replaced: list[bytes] = []
        """What the one file that is replaced again and again may hold, the last acknowledged upload first."""
        self.count = 0
        self._lock = threading.Lock()

    def reached(self, count: int) -> bool:
        """Whether so many have been acknowledged."""
        return self.count >= count

    def keep_adding(self, server: Server) -> None:
        """New files, until nobody answers."""
        with contextlib.suppress(httpx.TransportError):
            while True:
                number = next(self.numbers)
                name, content = f"voice-{number}.wav", clip(number)
                said = {"name": f"Voice {number}", "language": "en", "overwrite": "true"}
                answer = HTTP.post(server.url + "/voices", files={"file": (name, content)}, data=said)
                if answer.status_code == 201:
                    with self._lock:
                        self.kept[name] = content
                        self.count += 1

    def keep_replacing(self, server: Server) -> None:
        """One file, until nobody answers."""
        with contextlib.suppress(httpx.TransportError):
            while True:
                content = clip(next(self.numbers), seconds=1.2)
                self.replaced.append(content)
                if upload(server, "same.wav", content).status_code == 200:
                    self.replaced = [content]
                    self.count += 1


def test_acknowledged_uploads_survive_kill(server: StartServer) -> None:
    chance, uploads = random.Random(20), Uploads()
    one = server(*FAKE)
    for kill in range(KILLS):
        work = [uploads.keep_replacing, *[uploads.keep_adding] * (WRITERS - 1)]
        writers = [in_background(partial(write, one)) for write in work]
        enough = UPLOADS * (kill + 1) // KILLS + chance.randrange(10)
        wait_until(partial(uploads.reached, enough), f"{enough} uploads are acknowledged", seconds=60)
        one.kill()
        for writer in writers:
            writer.join(30)
        one = server(*FAKE, folder=one.folder)
        voices = {voice["id"]: voice for voice in HTTP.get(one.url + "/api/voices").json()["voices"]}
        there = list(voices)
        assert set(uploads.kept) <= set(there)
        for name, content in uploads.kept.items():
            assert (one.voices / name).read_bytes() == content, name
        # The kill may have come between the rename and the answer, never in the middle of a file.
        assert (one.voices / "same.wav").read_bytes() in uploads.replaced
        for name in set(there) - set(uploads.kept) - {"same.wav"}:
            number = int(name.removeprefix("voice-").removesuffix(".wav"))
            assert (one.voices / name).read_bytes() == clip(number), name
        # A clip never comes without what was said of it, also where the answer did not.
        for name in set(there) - {"same.wav"}:
            number = name.removeprefix("voice-").removesuffix(".wav")
            assert (voices[name]["name"], voices[name]["language"]) == (f"Voice {number}", "en"), name
        assert one.voice_files() == sorted(there)
    assert uploads.count >= UPLOADS


def test_partial_files_of_dead_process_are_swept(server: StartServer, tmp_path: Path) -> None:
    home = tmp_path / "left"
    (home / "voices").mkdir(parents=True)
    (home / "voices" / ".upload-abc123.tmp").write_bytes(clip(1)[:500])
    (home / "voices" / ".notes").write_text("not ours")
    one = server(*FAKE, folder=home)
    assert listed(one) == []
    assert [path.name for path in one.voices.iterdir()] == [".notes"]
