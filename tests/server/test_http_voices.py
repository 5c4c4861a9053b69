"""``/api/voices`` and ``/api/voice/default``."""

from __future__ import annotations

import hashlib
import socket

import httpx
import pytest
from audio_helpers import clip, pitch, read_wav, refusal, speak
from chatterbox_server.fake import frequency
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_server import HTTP, Server, StartServer

FAKE = ("--engine", "fake", "--fake-rtf", "0")


def upload(url: str, file_name: str, data: bytes, **texts: str) -> httpx.Response:
    """Sends a voice as a browser does."""
    return HTTP.post(f"{url}/api/voices/upload", files={"file": (file_name, data)}, data=texts)


def default_voice(url: str) -> str | None:
    """The server's default voice."""
    body = HTTP.get(f"{url}/api/voice/default").raise_for_status().json()
    assert set(body) == {"default_voice"}
    voice: str | None = body["default_voice"]
    return voice


def test_uploaded_voice_is_listed_and_speaks(server: StartServer) -> None:
    one = server(*FAKE)
    data = clip(seconds=1.5)
    answer = upload(one.url, "anna.wav", data)
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "filename": "anna.wav", "path": str(one.voices / "anna.wav")}
    assert (one.voices / "anna.wav").read_bytes() == data
    listed = HTTP.get(f"{one.url}/api/voices").json()
    assert listed["directory"] == str(one.voices)
    path = str(one.voices / "anna.wav")
    wanted = {"name": "anna", "id": "anna.wav", "path": path, "duration_seconds": 1.5, "sample_rate": 16_000}
    (voice,) = listed["voices"]
    assert {**voice, **wanted} == voice
    hertz = frequency("fake", hashlib.sha256(data).hexdigest(), 4)
    for reference in ("anna.wav", "anna", path, "voices/anna.wav", hashlib.sha256(data).hexdigest()):
        spoken = speak(one.url, seed=4, voice={"audio_prompt_path": reference})
        assert spoken.headers["x-voice"] == "anna.wav"
        assert pitch(*read_wav(spoken.content)) == pytest.approx(hertz, abs=1)


def test_upload_never_replaces_another_voice_unasked(server: StartServer) -> None:
    one = server(*FAKE)
    anna, bobby, third = clip(200), clip(300), clip(400)
    first = upload(one.url, "recording.wav", anna, name="Anna", consent="yes")
    assert first.json()["filename"] == "recording.wav"
    assert upload(one.url, "recording.wav", bobby, name="Bobby").json()["filename"] == "Bobby.wav"
    assert "overwrite=true" in refusal(upload(one.url, "recording.wav", third), 409, "VOICE_EXISTS")
    again = upload(one.url, "recording.wav", anna)
    assert (again.status_code, again.json()["filename"]) == (200, "recording.wav")
    voices = HTTP.get(f"{one.url}/api/voices").json()["voices"]
    assert [(voice["id"], voice["name"], voice["consent"]) for voice in voices] == [
        ("Bobby.wav", "Bobby", None),
        ("recording.wav", "Anna", "yes"),
    ]
    assert (one.voices / "recording.wav").read_bytes() == anna


def test_voice_is_spoken_with_by_its_display_name(server: StartServer) -> None:
    one = server(*FAKE)
    for number, name in enumerate(["Zoë K.", "Same", "Same"]):
        upload(one.url, f"v{number}.wav", clip(200 + 100 * number), name=name).raise_for_status()
    assert speak(one.url, voice={"audio_prompt_path": "Zoë K."}).headers["x-voice"] == "v0.wav"
    refused = speak(one.url, voice={"audio_prompt_path": "Same"})
    assert "v1.wav, v2.wav" in refusal(refused, 422, "INVALID_PARAMETER")


def test_unknown_voice_is_named_with_near_ones(fake: Server, lite: Server) -> None:
    for one in (fake, lite):
        upload(one.url, "natalia.wav", clip(), overwrite="true").raise_for_status()
        refused = speak(one.url, voice={"audio_prompt_path": "natalie"})
        assert "`natalie`" in (sentence := refusal(refused, 404, "VOICE_NOT_FOUND"))
        assert "natalia.wav" in sentence
        sentence = refusal(speak(one.url, voice={"audio_prompt_path": "/etc/passwd"}), 404, "VOICE_NOT_FOUND")
        assert "passwd" not in sentence
        (one.voices / "natalia.wav").unlink()


def test_upload_type_is_sniffed_without_extension(server: StartServer) -> None:
    one = server(*FAKE)
    answer = upload(one.url, "blob", clip())
    assert (answer.status_code, answer.json()["filename"]) == (200, "blob.wav")


def test_upload_says_that_voice_begins_too_late(fake: Server) -> None:
    late = clip(seconds=2.0)
    silence = bytes(2 * 16_000 * 20)
    size = len(late) - 44 + len(silence)
    data = late[:4] + (size + 36).to_bytes(4, "little") + late[8:40] + size.to_bytes(4, "little") + silence + late[44:]
    assert "after 20 s" in refusal(upload(fake.url, "late.wav", data), 422, "INVALID_PARAMETER")


def test_part_that_is_not_used_is_named(fake: Server) -> None:
    texts = {"text": "Hello."}
    files = {"file": ("a.wav", clip())}
    for path in ("/tts", "/tts/json"):
        refused = HTTP.post(fake.url + path, data=texts, files=files)
        assert refused.status_code == 422, refused.text
        assert "voice_file" in refused.text
    twice = [("voice_file", ("a.wav", clip())), ("voice_file", ("", b""))]
    assert HTTP.post(fake.url + "/tts/json", data=texts, files=twice).json()["voice_id"] != "tone"
    many = {f"x{number}": "1" for number in range(64)}
    refused = HTTP.post(fake.url + "/tts", data=many, files={"voice_file": ("a.wav", clip())})
    assert refused.status_code == 422, refused.text


def test_upload_replaces_voice_of_same_id_on_demand(server: StartServer) -> None:
    one = server(*FAKE)
    assert upload(one.url, "anna.wav", clip(200)).status_code == 200
    other = clip(300, seconds=2.0)
    assert upload(one.url, "anna.wav", other, overwrite="true").status_code == 200
    assert (one.voices / "anna.wav").read_bytes() == other
    voices = HTTP.get(f"{one.url}/api/voices").json()["voices"]
    assert [voice["duration_seconds"] for voice in voices] == [2.0]
    hertz = frequency("fake", hashlib.sha256(other).hexdigest(), 4)
    spoken = speak(one.url, seed=4, voice={"audio_prompt_path": "anna"})
    assert pitch(*read_wav(spoken.content)) == pytest.approx(hertz, abs=1)


def test_invalid_uploads_are_refused(fake: Server) -> None:
    assert "1" in refusal(upload(fake.url, "a.wav", clip(seconds=0.5)), 422, "INVALID_PARAMETER")
    refusal(upload(fake.url, "a.wav", b"RIFF nothing"), 415, "UNSUPPORTED_AUDIO")
    refusal(upload(fake.url, "a.wav", b""), 415, "UNSUPPORTED_AUDIO")
    assert "voice convert" in refusal(upload(fake.url, "a.pth", clip()), 415, "UNSUPPORTED_AUDIO")
    refusal(upload(fake.url, ".wav", clip()), 422, "INVALID_PARAMETER")
    refusal(HTTP.post(f"{fake.url}/api/voices/upload", files={"voice": ("a.wav", clip())}), 400, "NO_FILE")
    refusal(HTTP.post(f"{fake.url}/api/voices/upload", files={"file": (None, clip())}), 400, "NO_FILE")
    refusal(HTTP.post(f"{fake.url}/api/voices/upload", json={"file": "a.wav"}), 400, "BAD_REQUEST")
    assert HTTP.get(f"{fake.url}/api/voices").json()["voices"] == []


def test_file_that_is_too_large_is_refused(server: StartServer) -> None:
    one = server(*FAKE, "--max-voice-file-size", "60000")
    assert upload(one.url, "a.wav", clip(seconds=1.5)).status_code == 200
    refusal(upload(one.url, "b.wav", clip(seconds=2.5)), 413, "FILE_TOO_LARGE")
    refusal(upload(one.url, "b.wav", clip(seconds=30)), 413, "FILE_TOO_LARGE")
    assert not (one.voices / "b.wav").exists()


def test_default_voice_survives_restart(server: StartServer) -> None:
    one = server(*FAKE)
    assert default_voice(one.url) is None
    upload(one.url, "anna.wav", clip())
    answer = HTTP.post(f"{one.url}/api/voice/default", json={"voice_path": "/app/voices/anna.wav"})
    assert answer.json() == {"success": True, "voice_path": "anna.wav"}
    assert speak(one.url).headers["x-voice"] == "anna.wav"
    one.kill()
    again = server(*FAKE, folder=one.folder)
    assert default_voice(again.url) == "anna.wav"
    assert speak(again.url).headers["x-voice"] == "anna.wav"
    assert speak(again.url, voice={"audio_prompt_path": "tone"}).headers["x-voice"] == "tone"
    assert HTTP.delete(f"{again.url}/api/voice/default").json() == {"success": True, "default_voice": None}
    assert default_voice(again.url) is None
    assert speak(again.url).headers["x-voice"] == "tone"


def test_removed_default_voice_is_cleared_with_warning(server: StartServer) -> None:
    one = server(*FAKE)
    upload(one.url, "anna.wav", clip())
    HTTP.post(f"{one.url}/api/voice/default", json={"voice_path": "anna"}).raise_for_status()
    assert one.stop() == 0
    (one.voices / "anna.wav").unlink()
    again = server(*FAKE, folder=one.folder)
    assert default_voice(again.url) is None
    assert speak(again.url).headers["x-voice"] == "tone"
    assert again.log().count("the file of the default voice is gone") == 1


def test_default_voice_must_exist(fake: Server) -> None:
    path = f"{fake.url}/api/voice/default"
    refusal(HTTP.post(path, json={"voice_path": "nobody.wav"}), 404, "VOICE_NOT_FOUND")
    assert "voice_path" in refusal(HTTP.post(path, json={}), 422, "INVALID_PARAMETER")
    assert "voice_path" in refusal(HTTP.post(path, json={"voice_path": 5}), 422, "INVALID_PARAMETER")
    assert default_voice(fake.url) is None


def test_urls_are_never_fetched(fake: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        there = f"127.0.0.1:{listener.getsockname()[1]}/a.wav"
        urls = [f"{scheme}://{there}" for scheme in ("http", "https", "HTTP", "ftp", "ws", "file", "s3", "data")]
        for url in [*urls, f"//{there}", f"http:{there}", f"\\\\{there}", f"voices/http://{there}", there]:
            refusal(speak(fake.url, voice={"audio_prompt_path": url}), 404, "VOICE_NOT_FOUND")
            body = {"voice_path": url}
            refusal(HTTP.post(f"{fake.url}/api/voice/default", json=body), 404, "VOICE_NOT_FOUND")
        with pytest.raises(BlockingIOError):
            listener.accept()


PLAIN = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters='"\\'), max_size=12)
LINE = st.one_of(
    st.just(b'Content-Disposition: form-data; name="file"; filename="a.wav"'),
    st.builds(lambda a, b: f'Content-Disposition: form-data; name="{a}"; filename="{b}"'.encode(), PLAIN, PLAIN),
    st.builds(lambda a: f'Content-Disposition: form-data; name="file"; filename*="{a}"'.encode(), PLAIN),
    st.just(b"Content-Disposition: form-data; name=file"),
    st.just(b"Content-Transfer-Encoding: base64"),
    st.just(b"Content-Type: multipart/mixed; boundary=X"),
    st.just(b"X: " + b"y" * 9000),
    st.binary(max_size=20),
)
PART = st.builds(
    lambda lines, body: b"\r\n".join([*lines, b"", body]), st.lists(LINE, max_size=3), st.binary(max_size=60)
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(PART, max_size=20),
    kind=st.sampled_from(["multipart/form-data; boundary=X", "multipart/form-data", "multipart/mixed; boundary=X", ""]),
    cut=st.integers(0, 40),
)
def test_odd_multipart_bodies_are_refused(fake: Server, parts: list[bytes], kind: str, cut: int) -> None:
    body = b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + b"--X--\r\n"
    body = body[: len(body) - cut]
    answer = HTTP.post(f"{fake.url}/api/voices/upload", content=body, headers={"content-type": kind})
    assert answer.status_code in (400, 413, 415, 422), answer.text
    assert answer.json()["code"]
    assert fake.voice_files() == []


def test_number_of_parts_is_limited(fake: Server) -> None:
    parts = [("other", ("x", b"x"))] * 64
    answer = HTTP.post(f"{fake.url}/api/voices/upload", files=[*parts, ("file", ("a.wav", clip()))])
    refusal(answer, 400, "NO_FILE")
