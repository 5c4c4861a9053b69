from __future__ import annotations

import pytest
from chatterbox_server._core import Slicing
from chatterbox_server.chatterbox.interfaces import Slice
from chatterbox_server.chatterbox.model_spec import PROFILES
from chatterbox_server.chatterbox.rendering import Slicer
from hypothesis import given
from hypothesis import strategies as st

SCHEDULE = PROFILES["balanced"].schedule
DEFAULT = Slicing()


def cut(slicing: Slicing, tokens: int, arrivals: list[int], *, stream: bool = True) -> list[Slice]:
    """The slices of an utterance whose tokens come in steps of ``arrivals``, over and over."""
    slicer = Slicer(slicing, SCHEDULE, stream=stream)
    slices: list[Slice] = []
    there, turn = 0, 0
    while True:
        there = min(tokens, there + arrivals[turn % len(arrivals)])
        turn += 1
        ended = there == tokens
        while (part := slicer.next(there, ended=ended)) is not None:
            slices.append(part)
            if part.final:
                return slices


def test_slices_start_small_and_grow() -> None:
    slices = cut(DEFAULT, 400, [1])
    assert [part.end - part.start for part in slices] == [16, 25, 50, 100, 100, 100, 9]
    assert [part.context for part in slices] == [0, 0, 16, 66, 166, 266, 366]


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", PROFILES)
def test_profile_sets_default_slice_growth(name: str, on_cpu: bool) -> None:
    profile = PROFILES[name]
    schedule = profile.cpu_schedule if on_cpu else profile.schedule
    slicer = Slicer(DEFAULT, schedule, stream=True)
    sizes = []
    for _ in range(6):
        part = slicer.next(2000, ended=False)
        assert part is not None
        sizes.append(part.end - part.start)
    assert sizes == [*schedule, *[schedule[-1]] * 6][:6]
    assert list(schedule) == sorted(schedule)
    fixed = Slicer(Slicing(tokens_per_slice=7), schedule, stream=True).next(1000, ended=False)
    assert fixed is not None
    assert fixed.end == 7


# What nano takes on two cores (int4, 3 s of the reference) for a slice and for each of its tokens, and what vocoder and
# watermark hold back of the audio so far.
SLICE_SECONDS, TOKEN_SECONDS, HELD_SECONDS = 0.36, 0.0182, 0.45


def silences(schedule: tuple[int, ...], tokens: int) -> list[float]:
    """How long a listener hears nothing before each slice after the first, on such a machine."""
    slicer = Slicer(DEFAULT, schedule, stream=True)
    silent: list[float] = []
    now = sent = played_out = 0.0
    final = False
    while not final:
        part = slicer.next(tokens, ended=True)
        assert part is not None
        final = part.final
        now += SLICE_SECONDS + TOKEN_SECONDS * (part.end - part.start)
        made = 0.04 * part.end - (0.0 if final else HELD_SECONDS)
        if sent:
            silent.append(max(0.0, now - played_out))
        played_out = max(now, played_out) + made - sent
        sent = made
    return silent


def test_two_cores_keep_up_with_real_time() -> None:
    for tokens in (60, 125, 250, 1000):
        assert not any(silences(PROFILES["balanced"].cpu_schedule, tokens))
    assert any(silences(PROFILES["balanced"].schedule, 250))


@given(
    tokens=st.integers(1, 600),
    arrivals=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    size=st.none() | st.integers(1, 80),
    context=st.none() | st.integers(0, 200),
)
def test_slices_cover_each_token_once(tokens: int, arrivals: list[int], size: int | None, context: int | None) -> None:
    slicing = Slicing(tokens_per_slice=size, context_window=context)
    slices = cut(slicing, tokens, arrivals)
    assert slices == cut(slicing, tokens, [1]) == cut(slicing, tokens, [tokens])
    assert [part.start for part in slices] == [0, *(part.end for part in slices[:-1])]
    assert slices[-1].end == tokens
    assert [part.final for part in slices] == [False] * (len(slices) - 1) + [True]
    assert all(part.end + 3 <= tokens for part in slices[:-1]), "the lookahead was not there yet"
    assert all(part.start < part.end for part in slices)


def test_zero_overlap_has_no_context_or_crossfade() -> None:
    slicing = Slicing(overlap="zero", context_window=50)
    assert all(part.context == part.start for part in cut(slicing, 300, [1]))
    assert Slicer(slicing, SCHEDULE, stream=True).crossfade_frames == 0


@pytest.mark.parametrize(("milliseconds", "frames"), [(None, 2), (0, 0), (20, 1), (100, 5), (9000, 50)])
def test_crossfades_are_whole_frames_within_context(milliseconds: float | None, frames: int) -> None:
    slicing = Slicing(crossfade_ms=milliseconds)
    assert Slicer(slicing, SCHEDULE, stream=True).crossfade_frames == frames


def test_whole_request_is_one_slice() -> None:
    for tokens in (400, 1003):
        assert cut(DEFAULT, tokens, [7], stream=False) == [Slice(context=0, start=0, end=tokens, final=True)]


def test_long_clip_is_cut_to_bound_memory() -> None:
    ends = [(part.end, part.final) for part in cut(DEFAULT, 2500, [2500], stream=False)]
    assert ends == [(1000, False), (2000, False), (2500, True)]


@given(tokens=st.integers(0, 600), taken=st.integers(0, 6), stream=st.booleans(), ended=st.booleans())
def test_ready_slices_are_next_ones(tokens: int, taken: int, stream: bool, ended: bool) -> None:
    slicer = Slicer(DEFAULT, SCHEDULE, stream=stream)
    for _ in range(taken):
        if (part := slicer.next(tokens, ended=ended)) is None or part.final:
            break
    ready = slicer.ready(tokens, ended=ended)
    count = 0
    while slicer.taken < tokens and slicer.next(tokens, ended=ended) is not None:
        count += 1
    assert ready == count
