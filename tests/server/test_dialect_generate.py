"""``/tts/generate`` as browsers and scripts use it: negotiation, keys, ``HEAD``, streams."""

from __future__ import annotations

import httpx
import pytest
from audio_helpers import clip, refusal
from running_server import HTTP, Server, StartServer
from voices_helpers import post_file

FAKE = ("--engine", "fake", "--fake-rtf", "0")
TEXT = "Hello there."
TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "fmp4": "audio/mp4",
    "raw_pcm": "audio/pcm",
    "webm": "audio/webm",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
FIREFOX = (
    "audio/webm,audio/ogg,audio/wav,audio/*;q=0.9,application/ogg;q=0.7,video/*;q=0.6,"
    "application/octet-stream;q=0.5,*/*;q=0.4"
)


def get(server: Server, headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
    return HTTP.get(f"{server.url}/tts/generate", params={"text": TEXT, **fields}, headers=headers)  # type: ignore[dict-item]


@pytest.mark.parametrize("name", TYPES)
def test_format_wins_over_accept_header(fake: Server, name: str) -> None:
    answer = get(fake, {"accept": "audio/flac"}, format=name)
    assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name])
    body = {"text": TEXT, "format": name}
    answer = HTTP.post(f"{fake.url}/tts/generate", json=body, headers={"accept": "audio/flac"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name])


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "audio/wav"),
        ("audio/*", "audio/wav"),
        (FIREFOX, "audio/wav"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "audio/wav"),
        ("audio/mpeg", "audio/mpeg"),
        ("audio/webm;codecs=opus;q=0.9, audio/mpeg;q=0.8", "audio/webm"),
        ("audio/wav;q=0.1, audio/ogg;q=0.2", "audio/ogg"),
        ("audio/wav;q=0, audio/*", "audio/mpeg"),
        ("AUDIO/MP4", "audio/mp4"),
        ("audio/x-flac", "audio/flac"),
        ("audio/aac", "audio/aac"),
        ("audio/pcm", "audio/pcm"),
        ("text/html", "audio/wav"),
        ("", "audio/wav"),
    ],
)
def test_without_format_accept_header_decides(fake: Server, accept: str, kind: str) -> None:
    assert get(fake, {"accept": accept}).headers["content-type"] == kind
    answer = HTTP.post(f"{fake.url}/tts/generate", json={"text": TEXT}, headers={"accept": accept})
    assert answer.headers["content-type"] == kind


def test_range_request_gets_whole_stream(fake: Server) -> None:
    """As browsers ask first; the length of a stream is not known, and what was sent is not kept."""
    whole = get(fake, seed=1, format="mp3")
    for wanted in ("bytes=0-", "bytes=100-200"):
        answer = get(fake, {"range": wanted}, seed=1, format="mp3")
        assert (answer.status_code, answer.content) == (200, whole.content)
        assert "accept-ranges" not in answer.headers
        assert "content-range" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["wav", "mp3", "fmp4"])
def test_file_parts_are_of_one_synthesis(server: StartServer, name: str) -> None:
    """As players do that read in parts: a random seed would give each part another voice."""
    one = server(*FAKE)
    fields = {"format": name, "stream": "false"}
    whole = get(one, {"range": "bytes=0-"}, **fields)
    length = len(whole.content)
    assert (whole.status_code, whole.headers["content-range"]) == (206, f"bytes 0-{length - 1}/{length}")
    assert whole.headers["accept-ranges"] == "bytes"
    parts = b""
    for start in range(0, length, 997):
        answer = get(one, {"range": f"bytes={start}-{start + 996}"}, **fields)
        assert (answer.status_code, answer.headers["etag"]) == (206, whole.headers["etag"])
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["content-type"] == whole.headers["content-type"]
        assert (answer.headers["x-voice"], answer.headers["x-model"]) == ("tone", "fake")
        parts += answer.content
    assert parts == whole.content
    assert get(one, {"range": "bytes=-10"}, **fields).content == whole.content[-10:]
    assert get(one, {"range": f"bytes=5-{10**30}"}, **fields).content == whole.content[5:]
    for outside in (f"bytes={length}-", f"bytes={10**30}-", "bytes=-0"):
        refused = get(one, {"range": outside}, **fields)
        refusal(refused, 416, "RANGE_NOT_SATISFIABLE")
        assert refused.headers["content-range"] == f"bytes */{length}"
    assert spoken(one) == 1


def spoken(server: Server) -> float:
    """How often a server has spoken for this route."""
    return server.metrics()['chatterbox_requests_total{route="/tts/generate",model="fake",outcome="ok"}']


def test_whole_file_without_range_is_spoken_anew(server: StartServer) -> None:
    one = server(*FAKE)
    first, second = (get(one, stream="false") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["etag"] != second.headers["etag"]
    assert first.headers["content-length"] == str(len(first.content))
    part = get(one, {"range": "bytes=4-99", "if-range": second.headers["etag"]}, stream="false")
    assert (part.status_code, part.content) == (206, second.content[4:100])
    # Of a file that has gone: all of the one that is there.
    other = get(one, {"range": "bytes=4-99", "if-range": first.headers["etag"]}, stream="false")
    assert (other.status_code, other.content) == (200, second.content)
    for unread in ("items=0-1", "bytes=0-1,4-5", "bytes=9-4", "bytes=x"):
        assert get(one, {"range": unread}, stream="false").status_code == 200
    assert spoken(one) == 6


def test_probed_address_is_played_in_parts(server: StartServer) -> None:
    """As iPhones' players do, which ask for the first two bytes of a stream."""
    one = server(*FAKE)
    probe = get(one, {"range": "bytes=0-1"})
    length = int(probe.headers["content-range"].rpartition("/")[2])
    assert (probe.status_code, probe.headers["content-range"]) == (206, f"bytes 0-1/{length}")
    for wanted in (f"bytes=0-{length - 1}", "bytes=0-"):
        rest = get(one, {"range": wanted})
        assert (rest.status_code, len(rest.content), rest.content[:2]) == (206, length, probe.content)
    assert spoken(one) == 1
    assert get(one, {"range": "bytes=0-"}, seed=1).status_code == 200
    # A header with real lengths.
    assert int.from_bytes(rest.content[4:8], "little") == length - 8


def test_kept_file_is_of_one_client_and_voice(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "one,two", "HOST": "127.0.0.1"})
    keys = ({"x-api-key": "one"}, {"x-api-key": "two"})
    assert HTTP.post(f"{one.url}/voices", files={"file": ("bert.wav", clip())}, headers=keys[0]).status_code == 201
    probe = {"range": "bytes=0-1"}
    fields = {"voice_id": "bert", "stream": "false"}
    tags = [get(one, {**key, **probe}, **fields).headers["etag"] for key in (*keys, keys[0])]
    assert tags[0] == tags[2] != tags[1]
    other = {"file": ("bert.wav", clip(300))}
    replaced = HTTP.post(f"{one.url}/voices", files=other, data={"overwrite": "true"}, headers=keys[0])
    assert replaced.status_code in (200, 201)
    assert get(one, {**keys[0], **probe}, **fields).headers["etag"] not in tags
    HTTP.delete(f"{one.url}/voices/bert.wav", headers=keys[0]).raise_for_status()
    refusal(get(one, {**keys[0], **probe}, **fields), 404, "VOICE_NOT_FOUND")


def test_head_has_headers_and_no_audio(server: StartServer) -> None:
    one = server(*FAKE)
    answer = HTTP.head(f"{one.url}/tts/generate", params={"text": TEXT, "format": "mp3", "sample_rate": 16_000})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "audio/mpeg"
    assert (answer.headers["x-sample-rate"], answer.headers["x-model"]) == ("16000", "fake")
    assert "content-length" not in answer.headers
    assert HTTP.head(f"{one.url}/tts/generate", params={"text": TEXT, "format": "x"}).status_code == 422
    assert "chatterbox_input_characters_total" not in one.metrics()


def test_key_may_be_in_query(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "canary", "HOST": "127.0.0.1"})
    assert get(one, api_key="canary").status_code == 200
    assert get(one, {"x-api-key": "canary"}).status_code == 200
    posted = HTTP.post(f"{one.url}/tts/generate?api_key=canary", json={"text": TEXT})
    assert posted.status_code == 200
    refusal(get(one), 401, "UNAUTHORIZED")
    for wrong in ("wrong", ""):
        refusal(get(one, api_key=wrong), 401, "UNAUTHORIZED")
    assert "canary" not in one.log()


def test_every_character_may_be_in_query(fake: Server) -> None:
    text = "Ça va? 100 % & more + «größer» = 日本語 🙂\nyes"
    answer = HTTP.get(f"{fake.url}/tts/generate", params={"text": text})
    assert answer.status_code == 200
    plus = HTTP.get(f"{fake.url}/tts/generate?text=a+b+c%20d%2Be&seed=1")
    same = HTTP.get(f"{fake.url}/tts/generate", params={"text": "a b c d+e", "seed": "1"})
    assert plus.content == same.content


def test_longest_text_fits_into_query(fake: Server) -> None:
    assert get(fake, text="ä" * 5000, format="mp3").status_code == 200
    refusal(get(fake, text="ä" * 5001), 400, "TEXT_TOO_LONG")


def test_invalid_json_is_refused(fake: Server) -> None:
    for content, status, code in (
        (b"{", 400, "INVALID_JSON"),
        (b"[]", 422, "INVALID_PARAMETER"),
        (b"", 400, "INVALID_JSON"),
        (b'{"text": 5}', 422, "INVALID_PARAMETER"),
        (b'{"text": "a", "text": "b"}', 422, "INVALID_PARAMETER"),
    ):
        refusal(HTTP.post(f"{fake.url}/tts/generate", content=content), status, code)


def test_other_methods_are_refused(fake: Server) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        refusal(HTTP.request(method, f"{fake.url}/tts/generate"), 405, "METHOD_NOT_ALLOWED")


def test_response_headers_name_voice(fake: Server) -> None:
    post_file(fake, "/voices", "file", clip(), "bert.wav")
    headers = get(fake, voice_id="bert").headers
    assert (headers["x-voice"], headers["x-model"], headers["x-watermark"]) == ("bert.wav", "fake", "none")
    assert float(headers["x-time-to-first-audio-ms"]) >= float(headers["x-queue-time-ms"]) >= 0


def test_audio_arrives_while_it_is_made(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "1")
    fields = {"text": "x" * 1000, "format": "mp3"}
    with HTTP.stream("GET", f"{one.url}/tts/generate", params=fields) as answer:
        pieces = answer.iter_raw()
        for _ in range(3):
            next(pieces)
        # A minute of audio has begun.
        assert one.metrics()["chatterbox_requests_running"] == 1
    one.wait_metric("chatterbox_requests_running", 0)


def test_early_failure_has_status_and_late_failure_aborts(fake: Server) -> None:
    refusal(get(fake, text="[[fail]]"), 500, "GENERATION_ERROR")
    with pytest.raises(httpx.RemoteProtocolError):
        get(fake, text="[[fail-late]] " + "x" * 100)


def test_requests_are_counted_by_their_route(server: StartServer) -> None:
    one = server(*FAKE)
    get(one)
    get(one, seed="x")
    HTTP.post(f"{one.url}/tts", data={"text": TEXT})
    HTTP.post(f"{one.url}/tts/json", data={"text": TEXT})
    one.wait_metric("chatterbox_requests_running", 0)
    found = one.metrics()
    for route, model, outcome in (
        ("/tts/generate", "fake", "ok"),
        ("/tts/generate", "none", "rejected"),
        ("/tts", "fake", "ok"),
        ("/tts/json", "fake", "ok"),
    ):
        assert found[f'chatterbox_requests_total{{route="{route}",model="{model}",outcome="{outcome}"}}'] == 1
