"""Who is served first: by a clock that only the runner's own work moves."""

from __future__ import annotations

import pytest
from chatterbox_server.chatterbox.scheduler import WHOLE_SECONDS
from hypothesis import given, settings
from hypothesis import strategies as st
from timed_runner import TimedRunner

FIRST_SLICE = 16 + 3
"""Tokens that must be there before anything is heard: the first slice and its lookahead."""


def alone(tokens: int, **costs: float) -> float:
    """Seconds to the first audio of a request that has the timed to itself."""
    timed = TimedRunner(**costs)  # type: ignore[arg-type]
    timed.ask(1, tokens)
    timed.run()
    return timed.playbacks[1].first


def test_first_audio_alone_takes_tokens_and_one_slice() -> None:
    assert alone(200) == pytest.approx(FIRST_SLICE * 0.02 + 2 * 0.3)


@pytest.mark.parametrize(("render", "steps"), [(0.1, 2), (0.02, 10)])
def test_late_request_gets_first_audio_as_if_alone(render: float, steps: int) -> None:
    """Whoever came first has seconds in hand; one Euler step or one decoding step may be under way."""
    timed = TimedRunner(decode=0.005, render=render, steps=steps)
    for number in range(1, 4):
        timed.ask(number, 300)
    timed.run(until=0.5)
    while min(timed.playbacks[number].plays_until for number in (1, 2, 3)) < timed.clock.now + 2.0:
        timed.step()
    silence = [playback.silence for playback in timed.playbacks.values()]
    timed.ask(9, 300)
    timed.run()
    late = timed.playbacks.pop(9)
    assert late.first - late.asked <= alone(300, decode=0.005, render=render, steps=steps) + render + 1e-6
    assert [playback.silence for playback in timed.playbacks.values()] == silence


def test_earliest_deadline_precedes_late_request() -> None:
    timed = TimedRunner(decode=0.005, render=0.05)
    timed.ask(1, 120)
    while timed.playbacks[1].tokens == 0:
        timed.step()
    # The 0.6 s of the first slice are about to end, and the second slice has its tokens.
    while not timed.runner._live[1].rendering.due:
        timed.step()
    timed.clock.now = timed.playbacks[1].plays_until - 0.2
    timed.ask(2, 120)
    timed.run()
    assert timed.playbacks[1].silence == 0.0
    assert timed.playbacks[2].first - timed.playbacks[2].asked < 0.5


def test_next_utterance_of_buffered_listener_yields() -> None:
    timed = TimedRunner()
    timed.ask(1, 100, in_hand=8.0)
    timed.ask(2, 100)
    timed.run()
    assert timed.playbacks[2].first == pytest.approx(alone(100))
    assert timed.playbacks[2].first < timed.playbacks[1].first < 8.0


def test_decoding_pauses_while_slice_is_due() -> None:
    timed = TimedRunner()
    timed.ask(1, 400)
    while timed.playbacks[1].tokens == 0:
        timed.step()
    assert len(timed.runner._live[1].tokens) == FIRST_SLICE


@pytest.mark.parametrize("most", [1, 3])
def test_waiting_slices_are_limited(most: int) -> None:
    """A listener with much in hand is decoded along with whoever came last, and its slices need not be rendered yet."""

    def most_waiting(limit: int | None) -> int:
        timed = TimedRunner(decode=0.005, render=0.05, waiting_slices=limit)
        timed.ask(1, 600, in_hand=60.0)
        timed.ask(2, 600)
        waiting = 0
        while not timed.runner.idle:
            timed.step()
            live = timed.runner._live.get(1)
            waiting = max(waiting, live.rendering.waiting if live else 0)
        assert timed.playbacks[1].tokens == timed.playbacks[2].tokens == 600
        assert timed.playbacks[2].silence == 0.0
        return waiting

    assert most_waiting(most) == most + 1
    assert most_waiting(None) > 5


def test_streams_precede_whole_requests() -> None:
    costs = {"decode": 0.01, "render": 0.1}
    timed = TimedRunner(**costs)  # type: ignore[arg-type]
    timed.ask(1, 200, stream=False)
    timed.run(until=1.0)
    timed.ask(2, 100)
    timed.run()
    assert timed.playbacks[2].first - timed.playbacks[2].asked <= alone(100, **costs) + 0.1 + 1e-6
    assert timed.playbacks[2].silence == 0.0
    assert timed.playbacks[1].ended < float("inf")


def test_endless_streams_do_not_starve_whole_requests() -> None:
    """They ask for twice what the timed can do."""
    timed = TimedRunner(render=0.6, steps=2)
    timed.ask(0, 100, stream=False)
    number = 0
    while timed.playbacks[0].ended == float("inf"):
        assert timed.clock.now < 10 * WHOLE_SECONDS
        while len(timed.runner._live) < 5:
            number += 1
            timed.ask(number, 50)
        timed.step()
    assert number > 5
    assert WHOLE_SECONDS < timed.playbacks[0].ended < 3 * WHOLE_SECONDS


def test_whole_requests_finish_in_order() -> None:
    timed = TimedRunner()
    for number in range(6):
        timed.ask(number, 60, stream=False)
        timed.run(until=timed.clock.now + 0.05)
    timed.run()
    ends = [timed.playbacks[number].ended for number in range(6)]
    assert ends == sorted(ends)


def test_simultaneous_streams_get_equal_service() -> None:
    timed = TimedRunner(render=0.1)
    for number in range(6):
        timed.ask(number, 300)
    timed.run(until=6.0)
    tokens = [playback.tokens for playback in timed.playbacks.values()]
    assert max(tokens) - min(tokens) <= 100


def test_queued_requests_do_not_delay_running_ones() -> None:
    """Its deadline is long over: decoding ahead would free the slot sooner, and the listener would hear silence."""
    timed = TimedRunner(decode=0.01, render=0.1, slots=1)
    timed.ask(1, 500)
    timed.ask(2, 100)
    timed.run()
    assert timed.playbacks[1].silence == 0.0
    assert timed.playbacks[2].ended < float("inf")


def test_preparation_yields_only_to_due_streams() -> None:
    timed = TimedRunner(decode=0.005, render=0.05, prepare=0.2)
    timed.ask(1, 300)
    timed.run(until=1.0)
    timed.enroll(2)
    timed.run()
    assert timed.playbacks[1].silence == 0.0
    assert timed.playbacks[2].ended - timed.playbacks[2].asked < 1.5


def test_cancelled_slice_costs_no_more_steps() -> None:
    timed = TimedRunner(steps=10)
    timed.ask(1, 100)
    while timed.clock.now < FIRST_SLICE * 0.02 + 0.5:
        timed.step()
    timed.cancel(1)
    assert timed.runner.idle
    began = timed.clock.now
    timed.ask(2, 10)
    timed.run()
    assert timed.playbacks[1].tokens == 0
    assert timed.playbacks[2].first - began == pytest.approx(10 * 0.02 + 10 * 0.3)


def test_gpu_renders_in_batches() -> None:
    timed = TimedRunner(decode=0.001, render=0.002, steps=2, together=8)
    for number in range(8):
        timed.ask(number, 200)
    timed.run()
    (first,) = {playback.first for playback in timed.playbacks.values()}
    assert first == pytest.approx(FIRST_SLICE * 0.001 + 2 * 8 * 0.002)


Request = st.tuples(st.floats(0.0, 3.0), st.integers(1, 150), st.booleans(), st.booleans())


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(Request, min_size=1, max_size=12),
    slots=st.integers(1, 6),
    steps=st.sampled_from([2, 10]),
    together=st.sampled_from([1, 4]),
)
def test_every_request_completes_under_any_load(
    requests: list[tuple[float, int, bool, bool]], slots: int, steps: int, together: int
) -> None:
    timed = TimedRunner(slots=slots, steps=steps, together=together)
    cancelled = set()
    for number, (pause, tokens, stream, dropped) in enumerate(requests):
        timed.run(until=timed.clock.now + pause)
        timed.ask(number, tokens, stream=stream)
        if dropped and number:
            timed.cancel(number - 1)
            cancelled.add(number - 1)
    work = sum(tokens * 0.02 + (1 + tokens / 16) * steps * 0.3 * together for _, tokens, _, _ in requests)
    timed.run(until=timed.clock.now + work)
    assert timed.runner.idle, "more work than there is"
    for number, (_, tokens, _, _) in enumerate(requests):
        if number not in cancelled:
            assert timed.playbacks[number].tokens == tokens
            assert timed.playbacks[number].ended < float("inf")


def test_late_preparation_interrupts_no_stream() -> None:
    timed = TimedRunner(decode=0.002, render=0.02, prepare=0.5)
    timed.ask(1, 400)
    while timed.playbacks[1].tokens == 0:
        timed.step()
    # It has been waiting for long when its turn comes.
    timed.enroll(2)
    timed.clock.now += 0.4
    timed.run()
    assert timed.playbacks[2].ended < float("inf")
    assert timed.playbacks[1].silence < 0.6
