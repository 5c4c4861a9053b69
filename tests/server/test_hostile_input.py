"""Bodies and texts that no client of good will sends: always audio or a reason, never a 500, never without end."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from audio_helpers import read_wav, refusal, speak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_server import HTTP, Server

quick = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FIELDS = {
    "": ["text", "model", "language_id", "voice", "audio", "seed", "min_p", "top_k", "speed", "stream"],
    "voice": ["audio_prompt_path", "exaggeration", "cfg_weight", "temperature", "top_p", "repetition_penalty", "seed"],
    "audio": ["format", "sample_rate", "chunk_size_ms", "binary", "stream"],
}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def post(server: Server, body: bytes | str) -> httpx.Response:
    """Sends a body as it is."""
    return HTTP.post(f"{server.url}/api/tts", content=body)


def check(answer: httpx.Response) -> None:
    """Audio, or a refusal with a reason."""
    if answer.status_code == 200:
        assert answer.headers["content-type"].startswith("audio/")
        return
    assert 400 <= answer.status_code < 500, answer.text
    body = answer.json()
    assert body["code"]
    assert body["error"]


@quick
@given(data=st.data())
def test_any_value_in_any_field(fake: Server, data: st.DataObject) -> None:
    body: dict[str, Any] = {"text": "Hi."}
    for outer, names in FIELDS.items():
        chosen = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=2))
        if outer and chosen:
            body[outer] = chosen
        elif not outer:
            body.update(chosen)
    check(post(fake, json.dumps(body).encode("utf-8", "surrogatepass")))


@quick
@given(body=st.one_of(VALUES.map(json.dumps).map(str.encode), st.binary(max_size=50)))
def test_any_body(fake: Server, body: bytes) -> None:
    answer = post(fake, body)
    check(answer)
    assert answer.status_code != 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"text": "a", "speed": 1e999}', "speed"),
        ('{"text": "a", "voice": {"temperature": -1e999}}', "voice.temperature"),
        ('{"text": "a", "seed": 99999999999999999999999999}', "seed"),
        ('{"text": "a", "text": "b"}', "text: "),
        ('{"text": "a", "voice": {"top_p": 0.5, "top_p": 0.6}}', "voice.top_p: "),
        ('{"text": ["a"]}', "text"),
        ('{"text": "a", "voice": 5}', "voice"),
        ('{"text": "a", "audio": {"sample_rate": "24001"}}', "audio.sample_rate"),
        ('"text"', "body"),
        ("null", "body"),
    ],
)
def test_wrong_value_is_named(fake: Server, body: str, field: str) -> None:
    assert refusal(post(fake, body), 422, "INVALID_PARAMETER").startswith(field)


DEEP = 100_000
NOT_JSON = [
    '{"text": "a", "speed": NaN}',
    '{"text": "a", "speed": Infinity}',
    '{"x":' * DEEP,
    "{'text': 'a'}",
    '{"text": "a",}',
    '{"text": "a"} // comment',
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_json_lookalikes_are_refused(fake: Server, body: str) -> None:
    refusal(post(fake, body), 400, "INVALID_JSON")


@pytest.mark.parametrize("body", ["[" * DEEP, '{"text": "a", "x": ' + "[" * DEEP + "]" * DEEP + "}"], ids=range(2))
def test_deep_nesting_is_survived(fake: Server, body: str) -> None:
    check(post(fake, body))
    assert speak(fake.url).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (["Hi.", *[None] * 10], "body"),
        ({"text": "Hi.", "voice": [None] * 10}, "voice"),
        ({"text": "Hi.", "audio": [None] * 5}, "audio"),
    ],
)
def test_array_body_is_refused(fake: Server, body: object, field: str) -> None:
    assert refusal(post(fake, json.dumps(body)), 422, "INVALID_PARAMETER").startswith(f"{field}:")


SILENT = ["", " ", "\t\n\r\v\f", "\u200b\u200d\ufeff", "\u00a0\u3000", "\x00\x01\x1b"]
UNSPEAKABLE = ["!!!", "...", "…", "—", "()[]{}", "👋", "👩‍👩‍👧‍👦🏳️‍🌈", "\u202e\u202d", "&*#@", "\u0301", "\ue000"]
FOREIGN = ["你好，世界。", "Привет, мир.", "مرحبا بالعالم", "नमस्ते दुनिया", "こんにちは", "안녕하세요", "שלום עולם"]
ODD = [
    "\u202eHello there",
    "Hello\x00there\x07 and \x1b[31mred",
    "a" * 5000,
    "1" * 300,
    "a " * 2500,
    "." * 4999 + "a",
    "Hello 👋 there",
    "e" + "\u0301" * 400,
    "Ｈｅｌｌｏ　ｔｈｅｒｅ",
    "𝓗𝓮𝓵𝓵𝓸",
    "supercalifragilistic" * 100,
    "https://example.org/a?b=c&d=%20" * 10,
    "<script>alert(1)</script>",
    "'; DROP TABLE voices; --",
    "[[",
    "[[x]]",
    "[pause] <break time='1s'/>",
    "MCMXCIV $1,234,567.89 12:34:56 3/4 1e999 -0 ½ ² 10^100",
    "\n\n\n\nHello.\n\n\n\n\n\nThere.\n\n\n",
]


@pytest.mark.parametrize("text", SILENT, ids=range(len(SILENT)))
def test_empty_text_is_refused(fake: Server, lite: Server, text: str) -> None:
    for one in (fake, lite):
        refusal(speak(one.url, text), 422, "MISSING_TEXT")


@pytest.mark.parametrize("text", UNSPEAKABLE, ids=range(len(UNSPEAKABLE)))
def test_text_without_word_is_refused(fake: Server, lite: Server, text: str) -> None:
    for one in (fake, lite):
        answer = speak(one.url, text)
        check(answer)
        assert answer.status_code == 422


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_script_that_embedded_voice_cannot_read(fake: Server, lite: Server, text: str) -> None:
    assert "text" in refusal(speak(lite.url, text), 422, "INVALID_PARAMETER").lower()
    assert speak(fake.url, text).status_code == 200


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_text_is_spoken_or_refused(fake: Server, lite: Server, text: str) -> None:
    whole = speak(fake.url, text)
    check(whole)
    if whole.status_code == 200:
        samples, rate = read_wav(whole.content)
        # The fake engine's pace, its shortest utterance for each cut, and the pauses between them.
        assert len(samples) / rate <= 0.06 * len(text) + 1.0 * (len(text) // 20 + 1)
    start = speak(lite.url, text, max_audio_seconds=2)
    check(start)
    if start.status_code == 200:
        samples, rate = read_wav(start.content)
        assert len(samples) / rate <= 2.1


@quick
@given(text=st.text(max_size=200))
def test_any_text(fake: Server, text: str) -> None:
    check(post(fake, json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")))


@settings(quick, max_examples=25)
@given(text=st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_any_latin_text_on_embedded_voice(lite: Server, text: str) -> None:
    check(speak(lite.url, text, max_audio_seconds=1))


def test_text_of_ten_megabytes(fake: Server) -> None:
    refusal(post(fake, json.dumps({"text": "x" * 10_000_000})), 413, "BODY_TOO_LARGE")
