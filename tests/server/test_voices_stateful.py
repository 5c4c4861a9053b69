"""Voices in any order of everything that can happen to them: the server and a dictionary must agree."""

from __future__ import annotations

import contextlib
import shutil
from typing import ClassVar

from faults_helpers import distinct_clips, pitch_of, pitches, speak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from running_server import HTTP, Server

CLIPS = distinct_clips(3)
STEMS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, len(CLIPS) - 1)
NAMES = st.sampled_from(["Anna", "<b>", "Zoë 👋"])


class Voices(RuleBasedStateMachine):
    """Each voice as the number of its clip, by the stem of its id, and what was said of clips under an id."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.url = self.server.url
        self.voices: dict[str, int] = {}
        self.said: dict[tuple[str, int], str] = {}
        self.default: str | None = None
        for name in self.server.voice_files():
            HTTP.delete(f"{self.url}/api/voices/{name}").raise_for_status()
        # What was said of clips that were then taken out by hand.
        shutil.rmtree(self.server.voices / ".details", ignore_errors=True)
        HTTP.delete(self.url + "/api/voice/default").raise_for_status()

    def say(self, stem: str, number: int, name: str | None) -> None:
        """A name for a clip, and for no other that was under this id."""
        self.said = {key: said for key, said in self.said.items() if key[0] != stem}
        if name is not None:
            self.said[stem, number] = name

    @rule(stem=STEMS, number=NUMBERS, name=NAMES, overwrite=st.booleans())
    def upload(self, stem: str, number: int, name: str, overwrite: bool) -> None:
        files = {"file": (f"{stem}.wav", CLIPS[number])}
        answer = HTTP.post(self.url + "/voices", files=files, data={"name": name, "overwrite": str(overwrite).lower()})
        taken = stem in self.voices and not overwrite
        assert answer.status_code == (409 if taken else 201), answer.text
        if not taken:
            self.voices[stem] = number
            self.say(stem, number, name)

    @rule(number=NUMBERS)
    def register(self, number: int) -> None:
        if number in self.voices.values():
            answer = HTTP.post(self.url + "/voices/register", files={"voice_file": ("x.wav", CLIPS[number])})
            assert answer.status_code == 200, answer.text

    @rule(stem=STEMS)
    def delete(self, stem: str) -> None:
        answer = HTTP.delete(f"{self.url}/v1/audio/voices/{stem}")
        assert answer.status_code == (200 if stem in self.voices else 404), answer.text
        if self.voices.pop(stem, None) is not None:
            self.say(stem, 0, None)
            self.default = None if self.default == stem else self.default

    @rule(stem=STEMS, other=STEMS)
    def rename(self, stem: str, other: str) -> None:
        answer = HTTP.patch(f"{self.url}/api/voices/{stem}", json={"id": other})
        if stem not in self.voices:
            assert answer.status_code == 404, answer.text
        elif other in self.voices and other != stem:
            assert answer.status_code == 409, answer.text
        else:
            assert answer.json()["id"] == f"{other}.wav"
            number = self.voices[other] = self.voices.pop(stem)
            if other != stem:
                name = self.said.get((stem, number))
                self.say(stem, number, None)
                self.say(other, number, name)
            if self.default == stem:
                self.default = other

    @rule(stem=STEMS, name=NAMES)
    def call(self, stem: str, name: str) -> None:
        answer = HTTP.patch(f"{self.url}/api/voices/{stem}", json={"name": name})
        assert answer.status_code == (200 if stem in self.voices else 404), answer.text
        if stem in self.voices:
            self.said[stem, self.voices[stem]] = name

    @rule(stem=STEMS)
    def make_default(self, stem: str) -> None:
        answer = HTTP.post(self.url + "/api/voice/default", json={"voice_path": stem})
        assert answer.status_code == (200 if stem in self.voices else 404), answer.text
        if stem in self.voices:
            self.default = stem

    @rule(stem=STEMS, number=NUMBERS)
    def put_by_hand(self, stem: str, number: int) -> None:
        (self.server.voices / f"{stem}.wav").write_bytes(CLIPS[number])
        self.voices[stem] = number

    @rule(stem=STEMS)
    def take_by_hand(self, stem: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.server.voices / f"{stem}.wav").unlink()
        self.voices.pop(stem, None)

    @rule(stem=STEMS)
    def use(self, stem: str) -> None:
        answer = speak(self.server, "This is a text.", stem)
        assert answer.status_code == (200 if stem in self.voices else 404), answer.text
        if stem in self.voices:
            assert pitches(answer.content) == {pitch_of(CLIPS[self.voices[stem]])}

    @invariant()
    def agree(self) -> None:
        listed = HTTP.get(self.url + "/api/voices").json()["voices"]
        assert {voice["id"].removesuffix(".wav"): voice["name"] for voice in listed} == {
            stem: self.said.get((stem, number), stem) for stem, number in self.voices.items()
        }
        assert self.server.voice_files() == sorted(f"{stem}.wav" for stem in self.voices)
        default = HTTP.get(self.url + "/api/voice/default").json()["default_voice"]
        assert default == (f"{self.default}.wav" if self.default in self.voices else None)


def test_voice_store_matches_model(fake: Server) -> None:
    relaxed = settings(
        max_examples=25,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    Voices.server = fake
    run_state_machine_as_test(Voices, settings=relaxed)
