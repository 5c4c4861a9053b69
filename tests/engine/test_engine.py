from __future__ import annotations

import pytest
from chatterbox_server._core import Audio, Cancel, Convert, Done, Enroll, Enrolled, Failed, Forget, Model, Speak, Stats
from chatterbox_server.engine import Engine
from chatterbox_server.model_runner import Event, RequestError
from engine_helpers import convert, speak

KEY = "f" * 64
STATS = Stats(audio_seconds=0.0, compute_seconds=0.0, tokens=None)


def pcm(name: str) -> bytes:
    """A sample that tells the models apart."""
    return name.encode() * 4


class Script:
    """A runner that answers each live request with one ``Audio`` per step, or does what its text says."""

    def __init__(self, name: str) -> None:
        self.model = Model(
            name=name,
            sample_rate=24_000,
            can_clone=True,
            can_convert=True,
            languages=("en",),
            voices=("x",),
            tags=(),
            watermark=False,
        )
        self.voice_cache_bytes = 5
        self.live: dict[int, str] = {}
        self.forgotten: list[str] = []
        self.released = 0
        self.deaf_to_cancel = False

    @property
    def idle(self) -> bool:
        return not self.live

    def submit(self, command: Speak) -> None:
        if command.text == "refuse":
            raise RequestError("INVALID_PARAMETER", "refused", field="text")
        if command.text == "submit oom":
            raise MemoryError
        self.live[command.id] = command.text

    def convert(self, command: Convert) -> None:
        if not command.pcm:
            raise RequestError("UNSUPPORTED_AUDIO", "empty")
        self.live[command.id] = "go"

    def cancel(self, request_id: int) -> None:
        if not self.deaf_to_cancel:
            self.live.pop(request_id, None)

    def enroll(self, command: Enroll) -> None:
        if not command.pcm:
            raise RequestError("UNSUPPORTED_AUDIO", "empty")
        self.live[command.id] = "prepare " + command.voice

    def forget(self, voice: str) -> None:
        self.forgotten.append(voice)

    def release_caches(self) -> None:
        self.released += 1

    def step(self) -> list[Event]:
        events: list[Event] = []
        for request_id, text in list(self.live.items()):
            if text == "step oom":
                raise MemoryError
            if text == "fatal":
                raise ZeroDivisionError
            if text.startswith("prepare "):
                self.live[request_id] = text.removeprefix("prepare ")
            elif text == KEY:
                del self.live[request_id]
                events.append(Enrolled(id=request_id, voice=KEY, model=self.model.name, cache_bytes=1))
            elif text == "end":
                del self.live[request_id]
                events.append(Done(id=request_id, stats=STATS))
            else:
                events.append(Audio(id=request_id, pcm=pcm(self.model.name)))
        return events


@pytest.fixture
def runners() -> tuple[Script, Script]:
    return Script("a"), Script("b")


@pytest.fixture
def engine(runners: tuple[Script, Script]) -> Engine:
    return Engine(runners, device="cpu")


def enroll(model: str, clip: bytes = b"1234") -> Enroll:
    return Enroll(id=9, voice=KEY, model=model, pcm=clip, sample_rate=8000)


def code(event: Event) -> str:
    assert isinstance(event, Failed)
    return event.code


def test_requests_reach_runner_of_their_model(engine: Engine) -> None:
    assert [model.name for model in engine.models] == ["a", "b"]
    assert engine.idle
    events = engine.step([speak(1, "go", model="b"), speak(2, "go", model="a")])
    assert {event.id: event.pcm for event in events if isinstance(event, Audio)} == {1: pcm("b"), 2: pcm("a")}
    assert not engine.idle


def test_unknown_model_fails_request_only(engine: Engine) -> None:
    events = engine.step([speak(1, "go", model="z"), speak(2, "go", model="a"), enroll("z")])
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(event.id, event.code) for event in failed] == [(1, "INVALID_PARAMETER"), (9, "INVALID_PARAMETER")]
    assert all(event.field == "model" and event.message.startswith("'z'") for event in failed)
    assert any(isinstance(event, Audio) and event.id == 2 for event in events)


def test_refused_request_leaves_others_alone(engine: Engine) -> None:
    events = engine.step([speak(1, "refuse", model="a"), speak(2, "go", model="a")])
    assert events[0] == Failed(id=1, code="INVALID_PARAMETER", field="text", message="refused")
    assert [event.id for event in events] == [1, 2]


def test_id_is_free_after_end(engine: Engine) -> None:
    assert engine.step([speak(1, "end", model="a")]) == [Done(id=1, stats=STATS)]
    assert engine.step([speak(1, "refuse", model="a")]) != []
    assert engine.step([speak(1, "end", model="b")]) == [Done(id=1, stats=STATS)]


def test_duplicate_id_raises(engine: Engine) -> None:
    engine.step([speak(1, "go", model="a")])
    with pytest.raises(ValueError, match="request id 1 is in use"):
        engine.step([speak(1, "go", model="b")])


def test_cancelled_request_sends_no_events(engine: Engine, runners: tuple[Script, Script]) -> None:
    engine.step([speak(1, "go", model="a")])
    assert engine.step([Cancel(id=1)]) == []
    assert engine.idle
    assert engine.step([speak(2, "refuse", model="a"), Cancel(id=2)]) == []
    assert engine.step([enroll("a"), Cancel(id=9)]) == []
    assert engine.step([Cancel(id=1), Cancel(id=404)]) == []
    runners[0].deaf_to_cancel = True
    engine.step([speak(3, "go", model="a")])
    assert engine.step([Cancel(id=3)]) == []
    assert engine.step([]) == []


def test_cancelled_id_can_speak_again_at_once(engine: Engine) -> None:
    engine.step([speak(1, "go", model="a")])
    events = engine.step([Cancel(id=1), speak(1, "end", model="b")])
    assert events == [Done(id=1, stats=STATS)]


def test_conversion_is_answered_like_utterance(engine: Engine) -> None:
    assert engine.step([convert(1, model="b")]) == [Audio(id=1, pcm=pcm("b"))]
    assert code(engine.step([convert(2, seconds=0.0, model="a")])[0]) == "UNSUPPORTED_AUDIO"
    assert engine.step([Cancel(id=1)]) == []
    assert engine.idle


def test_enrolment_runs_beside_speech(engine: Engine) -> None:
    assert [event.id for event in engine.step([enroll("b"), speak(1, "go", model="b")])] == [1]
    events = engine.step([])
    assert Enrolled(id=9, voice=KEY, model="b", cache_bytes=1) in events
    assert [event.id for event in engine.step([])] == [1]
    assert engine.step([enroll("a"), Cancel(id=1)]) == []
    assert code(engine.step([Cancel(id=9), enroll("b", b"")])[0]) == "UNSUPPORTED_AUDIO"
    assert engine.idle
    assert engine.voice_cache_bytes == 10


def test_enrolment_and_utterance_cannot_share_id(engine: Engine) -> None:
    engine.step([enroll("a")])
    with pytest.raises(ValueError, match="request id 9 is in use"):
        engine.step([speak(9, "go", model="a")])


def test_cancelled_enrolment_has_no_answer(engine: Engine, runners: tuple[Script, Script]) -> None:
    runners[0].deaf_to_cancel = True
    engine.step([enroll("a")])
    assert engine.step([Cancel(id=9)]) == []
    assert not runners[0].live


def test_forget_reaches_every_model(engine: Engine, runners: tuple[Script, Script]) -> None:
    assert engine.step([Forget(voice="k")]) == []
    assert [runner.forgotten for runner in runners] == [["k"], ["k"]]


def test_out_of_memory_in_request_frees_runner_caches(engine: Engine, runners: tuple[Script, Script]) -> None:
    events = engine.step([speak(1, "submit oom", model="a"), speak(2, "go", model="a")])
    assert code(events[0]) == "OUT_OF_MEMORY"
    assert [event.id for event in events] == [1, 2]
    assert [runner.released for runner in runners] == [1, 0]


def test_out_of_memory_in_step_fails_runner_requests(engine: Engine, runners: tuple[Script, Script]) -> None:
    events = engine.step([speak(1, "go", model="a"), speak(2, "step oom", model="a"), speak(3, "go", model="b")])
    assert sorted(event.id for event in events if isinstance(event, Failed)) == [1, 2]
    assert {code(event) for event in events if event.id != 3} == {"OUT_OF_MEMORY"}
    assert [runner.released for runner in runners] == [1, 0]
    assert [event.id for event in engine.step([])] == [3]


def test_out_of_memory_in_step_fails_runner_enrolments(engine: Engine) -> None:
    events = engine.step([enroll("a"), speak(2, "step oom", model="a")])
    assert sorted((event.id, code(event)) for event in events) == [(2, "OUT_OF_MEMORY"), (9, "OUT_OF_MEMORY")]
    assert engine.idle


def test_any_other_exception_is_fatal(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        engine.step([speak(1, "fatal", model="a")])


def test_closing_drops_requests_and_caches(engine: Engine, runners: tuple[Script, Script]) -> None:
    engine.step([speak(1, "go", model="a"), enroll("b")])
    engine.close()
    assert engine.idle
    assert [runner.released for runner in runners] == [1, 1]
