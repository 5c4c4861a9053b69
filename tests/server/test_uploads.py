"""Uploads that are bombs, lies or programs: refused with a reason, at no cost to speak of."""

from __future__ import annotations

import io
import pickle
import socket
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from audio_helpers import clip, refusal
from faults_helpers import FAKE, speak, upload
from running_server import HTTP, Server, StartServer

BOMB_HOURS = 10
MEMORY_GROWTH = 120 * 2**20
"""A bomb decoded whole would take more than a gigabyte."""


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Hours of almost nothing: one click, so that it does not count as silent, then zeros."""
    rate = 8_000
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16") as writer:
        writer.write(np.array([8_000, -8_000] * 100, np.int16))
        silence = np.zeros(rate * 600, np.int16)
        for _ in range(BOMB_HOURS * 6):
            writer.write(silence)
    return file.getvalue()


def peak_memory(server: Server) -> int:
    """The most memory that the process has ever had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def assert_alive(server: Server) -> None:
    assert HTTP.get(server.url + "/readyz").status_code == 200
    assert speak(server, "Still here.").status_code == 200


def test_decompression_bomb_is_refused_in_bounded_memory(server: StartServer, bomb: bytes) -> None:
    assert len(bomb) < 2**20
    one = server(*FAKE)
    assert upload(one, "warm.wav", clip(1)).status_code == 200
    before = peak_memory(one)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda name: upload(one, name, bomb), ("a.flac", "b.wav")))
    for answer in answers:
        assert answer.status_code in (413, 415, 422), answer.text
        assert "long" in answer.json()["error"]
    assert peak_memory(one) - before < MEMORY_GROWTH
    assert one.voice_files() == ["warm.wav"]
    assert_alive(one)


def test_decompression_bomb_in_folder_is_skipped(server: StartServer, bomb: bytes, tmp_path: Path) -> None:
    home = tmp_path / "prepared"
    (home / "voices").mkdir(parents=True)
    (home / "voices" / "bomb.flac").write_bytes(bomb)
    one = server(*FAKE, folder=home)
    assert HTTP.get(one.url + "/api/voices").json()["voices"] == []
    assert speak(one, "Hello.", "bomb.flac").status_code == 404
    assert_alive(one)


DECODING_ROUTES = {
    "/api/voices/upload": "file",
    "/api/vc": "file",
    "/voices": "file",
    "/voices/register": "voice_file",
    "/tts": "voice_file",
    "/v1/audio/voices": "audio_sample",
    "/v1/audio/voice_consents": "recording",
}


@pytest.mark.parametrize("path", DECODING_ROUTES)
def test_fragment_with_billions_of_samples_is_refused(fake: Server, path: str) -> None:
    clip = bytearray((Path(__file__).parents[1] / "data" / "tone-fragmented.m4a").read_bytes())
    run = clip.index(b"trun")
    # Flags without any field for each sample, and the count.
    clip[run + 4 : run + 12] = struct.pack(">II", 1, 2**32 - 1)
    texts = {"text": "Hi.", "name": "x", "language": "en", "consent": "yes"}
    answer = HTTP.post(fake.url + path, files={DECODING_ROUTES[path]: ("a.m4a", bytes(clip))}, data=texts)
    assert answer.status_code in (400, 415, 422), answer.text
    assert "more samples than bytes" in answer.text


def wav_header(channels: int, rate: int, bits: int, claimed: int) -> bytes:
    """A WAV file that claims things about the second of noise in it."""
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    noise = np.random.default_rng(0).bytes(16_000)
    return (
        b"RIFF"
        + struct.pack("<I", claimed)
        + b"WAVEfmt \x10\0\0\0"
        + fields
        + b"data"
        + struct.pack("<I", claimed)
        + noise
    )


LIES = {
    "too many channels": wav_header(65_535, 8_000, 16, 16_000),
    "no channels": wav_header(0, 8_000, 16, 16_000),
    "no rate": wav_header(1, 0, 16, 16_000),
    "greatest rate": wav_header(1, 2**32 - 1, 16, 16_000),
    "no bits": wav_header(1, 8_000, 0, 16_000),
    "cut in the header": clip(1)[:30],
    "cut before the data": clip(1)[:44],
    "half of a FLAC marker": b"fL",
    "FLAC of zeros": b"fLaC" + bytes(4_000),
    "FLAC of ones": b"fLaC" + b"\xff" * 4_000,
    "Ogg of zeros": b"OggS" + bytes(4_000),
    "MP4 whose box is as long as can be": b"\0\0\0\x01ftypM4A \xff\xff\xff\xff\xff\xff\xff\xff" + bytes(100),
    "MP3 of sync words": b"\xff\xfb" * 8_000,
    "nothing": b"",
    "text": b"This is no audio at all. " * 100,
}


@pytest.mark.parametrize("lie", LIES)
def test_mislabelled_file_is_refused(fake: Server, lie: str) -> None:
    response = upload(fake, "lie.wav", LIES[lie])
    assert response.status_code in (415, 422), response.text
    assert response.json()["error"]
    assert fake.voice_files() == []


def test_oversized_header_length_is_ignored(fake: Server) -> None:
    before = peak_memory(fake)
    response = upload(fake, "promise.wav", wav_header(1, 8_000, 16, 2**32 - 1))
    assert response.status_code in (200, 415, 422)
    assert peak_memory(fake) - before < MEMORY_GROWTH
    (fake.voices / "promise.wav").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("content", "complaint"), [(clip(1, seconds=0.9), "0.90 s"), (clip(1, rate=8_000)[:44] + bytes(24_000), "silent")]
)
def test_clip_without_voice_is_refused(fake: Server, content: bytes, complaint: str) -> None:
    response = upload(fake, "short.wav", content)
    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")
    assert complaint in response.json()["error"]
    assert fake.voice_files() == []


def test_large_file_is_refused(server: StartServer) -> None:
    one = server(*FAKE, env={"MAX_VOICE_FILE_SIZE": "60000"})
    assert len(clip(1)) < 60_000 < len(clip(1, 3.0))
    assert upload(one, "small.wav", clip(1)).status_code == 200
    # A little too large, and so large that the body is not even read to its end.
    for seconds in (3.0, 60.0):
        response = upload(one, "large.wav", clip(1, seconds))
        assert (response.status_code, response.json()["code"]) == (413, "FILE_TOO_LARGE")
    (one.voices / "by-hand.wav").write_bytes(clip(1, 3.0))
    listed = HTTP.get(one.url + "/api/voices").json()["voices"]
    assert [voice["id"] for voice in listed] == ["small.wav"]


class Program:
    """What runs when it is unpickled: it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("archive", [False, True], ids=["plain pickle", "archive of torch"])
def test_uploads_start_no_program(server: StartServer, tmp_path: Path, archive: bool) -> None:
    mark = tmp_path / "ran"
    program = pickle.dumps(Program(mark))
    pickle.loads(program)
    assert mark.exists(), "the program must work for its absence to mean anything"
    mark.unlink()
    if archive:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as writer:
            writer.writestr("archive/data.pkl", program)
            writer.writestr("archive/version", "3\n")
        program = file.getvalue()
    home = tmp_path / "prepared"
    (home / "voices").mkdir(parents=True)
    for name in ("mine.pth", "mine.wav", "other.pt"):
        (home / "voices" / name).write_bytes(program)
    one = server(*FAKE, folder=home)
    for name in ("a.pth", "a.pt", "a.pkl", "a.bin", "a.safetensors", "a.wav", "a.mp3", "a", "a.wav.pth"):
        response = upload(one, name, program)
        assert (response.status_code, response.json()["code"]) == (415, "UNSUPPORTED_AUDIO"), name
        if name.endswith((".pth", ".pt")):
            assert "chatterbox-server voice convert" in response.json()["error"]
    for name in ("mine.pth", "mine", "mine.wav", "other.pt", "a.pth"):
        assert speak(one, "Hello.", name).status_code == 404
    assert HTTP.get(one.url + "/api/voices").json()["voices"] == []
    assert not mark.exists()
    assert len(list(one.voices.iterdir())) == 3
    assert_alive(one)


def test_oversized_body_is_refused_early(server: StartServer) -> None:
    one = server(*FAKE, "--max-voice-file-size", "1000", "--body-timeout", "3")
    part = b'--X\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(2**17)
    head = "POST /api/voices/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=X\r\n"
    with socket.create_connection(("127.0.0.1", one.port), timeout=20) as client:
        client.sendall(f"{head}content-length: {2**30}\r\n\r\n".encode() + part)
        assert client.recv(4096).split(b" ")[1] == b"413"


def test_file_after_too_many_parts_is_not_read(fake: Server) -> None:
    def upload_after(parts: int) -> httpx.Response:
        fields = {f"other-{number}": "x" for number in range(parts)}
        return HTTP.post(fake.url + "/api/voices/upload", data=fields, files={"file": ("parts.wav", clip(1))})

    assert upload_after(63).status_code == 200
    refusal(upload_after(64), 400, "NO_FILE")
