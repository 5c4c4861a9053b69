"""``/v1/audio/voices`` and ``/v1/audio/voice_consents``, as OpenAI's clients use them."""

from __future__ import annotations

from audio_helpers import clip
from faults_helpers import FAKE, distinct_clips, pitch_of, pitches, speak
from running_server import HTTP, StartServer
from voices_helpers import get, openai_refusal, post_file


def test_voices_in_openais_shape(server: StartServer) -> None:
    one = server(*FAKE)
    recording = post_file(one, "/v1/audio/voice_consents", "recording", clip(), name="Anna's", language="en-US")
    assert recording.status_code == 200, recording.text
    consent = recording.json()
    assert set(consent) == {"id", "object", "name", "language", "created_at"}
    assert (consent["object"], consent["language"]) == ("audio.voice_consent", "en-us")

    mine, *_ = distinct_clips(1)
    answer = post_file(one, "/v1/audio/voices", "audio_sample", mine, "x.wav", name="Anna", consent=consent["id"])
    assert answer.status_code == 200, answer.text
    voice = answer.json()
    assert set(voice) == {"id", "object", "type", "name", "created_at"}
    assert (voice["object"], voice["type"], voice["name"]) == ("audio.voice", "audio_sample", "Anna")
    assert get(one, f"/v1/audio/voices/{voice['id']}") == voice
    assert get(one, "/v1/audio/voices")["voices"][-1] == voice
    assert get(one, "/v1/audio/voices")["voices"][0]["id"] == "tone"
    assert get(one, f"/api/voices/{voice['id']}")["consent"] == consent["id"]
    assert pitches(speak(one, "This is a text.", voice["id"]).content) == {pitch_of(mine)}

    path = f"{one.url}/v1/audio/voices"
    deleted = {"id": voice["id"], "object": "audio.voice.deleted", "deleted": True}
    assert HTTP.delete(f"{path}/{voice['id']}").json() == deleted
    openai_refusal(HTTP.get(f"{path}/{voice['id']}"), 404, "voice_not_found")
    openai_refusal(HTTP.delete(f"{path}/tone"), 403, "voice_read_only")
    assert "name" in openai_refusal(post_file(one, "/v1/audio/voices", "audio_sample", mine), 422, "invalid_parameter")
    unknown = {"name": "Anna", "consent": "cons_" + "0" * 32}
    refused = post_file(one, "/v1/audio/voices", "audio_sample", mine, **unknown)
    assert refused.json()["error"]["param"] == "consent"
    openai_refusal(
        post_file(one, "/v1/audio/voices", "audio_sample", mine, "a.pt", name="Anna"), 415, "unsupported_audio"
    )


def test_consents_are_listed_in_pages_renamed_and_deleted(server: StartServer) -> None:
    one = server(*FAKE)
    path = f"{one.url}/v1/audio/voice_consents"
    assert get(one, "/v1/audio/voice_consents") == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    for number in range(3):
        post_file(one, "/v1/audio/voice_consents", "recording", clip(), name=f"n{number}", language="en")
    one.kill()
    one = server(*FAKE, folder=one.folder)
    path = f"{one.url}/v1/audio/voice_consents"
    first = HTTP.get(path, params={"limit": 2}).json()
    assert (len(first["data"]), first["has_more"]) == (2, True)
    rest = HTTP.get(path, params={"after": first["last_id"]}).json()
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
    assert len({consent["id"] for consent in first["data"] + rest["data"]}) == 3
    for wrong in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "cons_x"}):
        assert HTTP.get(path, params=wrong).status_code in (400, 422)

    chosen = first["first_id"]
    renamed = HTTP.post(f"{path}/{chosen}", json={"name": "Anna"}).json()
    assert renamed == HTTP.get(f"{path}/{chosen}").json()
    assert renamed["name"] == "Anna"
    deleted = HTTP.delete(f"{path}/{chosen}").json()
    assert deleted == {"id": chosen, "object": "audio.voice_consent", "deleted": True}
    openai_refusal(HTTP.get(f"{path}/{chosen}"), 404, "not_found")
    assert len(list((one.voices / ".consents").iterdir())) == 4
