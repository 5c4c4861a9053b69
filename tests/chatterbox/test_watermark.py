"""The mark is Perth's own, is found whatever is done to the audio, and does not tell how the audio was cut."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import av
import clips
import numpy as np
import pytest
import torch
from chatterbox_server.chatterbox.watermark.perth import FRAME, HALF, frames, level
from chatterbox_server.chatterbox.watermark.watermarker import Samples, Watermarker
from hibari import Hibari
from hibari.voices import voice_path

RATE = 24_000
SHORTEST_DELAY, LONGEST_DELAY = 2_256, 3_696
"""Samples: 94 and 154 ms."""


@pytest.fixture(scope="module")
def watermarker() -> Watermarker:
    return Watermarker.load(torch.device("cpu"))


@pytest.fixture(scope="module")
def perth() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from perth.perth_net.perth_net_implicit.perth_watermarker import PerthImplicitWatermarker
    return PerthImplicitWatermarker()


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Six seconds of it."""
    voice = Hibari(voice="heart", model=voice_path("heart", download_missing=False), threads=1)
    text = "The quick brown fox jumps over the lazy dog. I wonder whether it will rain tomorrow in the mountains."
    parts = [voice.from_ids(voice.ids(line), 1.0, np.random.default_rng(0)) for line in voice.phonemize(text)]
    return np.asarray(2 * np.concatenate(parts), np.float32)


@pytest.fixture(scope="module")
def marked(watermarker: Watermarker, speech: Samples) -> Samples:
    return watermarker.whole(speech)


def pieces(samples: Samples, sizes: Iterator[int]) -> Iterator[Samples]:
    start = 0
    while start < samples.size:
        size = next(sizes)
        yield samples[start : start + size]
        start += size


def streamed(watermarker: Watermarker, samples: Samples, sizes: Iterator[int]) -> Samples:
    stream = watermarker.stream()
    out = [stream.push(piece) for piece in pieces(samples, sizes)]
    return np.concatenate([*out, stream.finish()])


def same(size: int) -> Iterator[int]:
    while True:
        yield size


def perths_answer(perth: Any, samples: Samples, rate: int = RATE) -> float:
    return float(perth.get_watermark(samples, rate, round=False))


def through_mp3(samples: Samples, rate: int = 64_000) -> Samples:
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        track = out.add_stream("mp3", rate=RATE)
        track.bit_rate = rate
        track.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="fltp", layout="mono")
        frame.rate = RATE
        for part in av.AudioResampler(format=track.format, layout="mono", rate=RATE).resample(frame):
            out.mux(track.encode(part))
        out.mux(track.encode(None))
    file.seek(0)
    with av.open(file, "r") as back:
        return np.concatenate([part.to_ndarray().reshape(-1) for part in back.decode(audio=0)]).astype(np.float32)


def test_watermark_network_equals_perth(watermarker: Watermarker, perth: Any, speech: Samples) -> None:
    samples = torch.from_numpy(speech[: 2 * RATE])
    levels = level(frames(torch.nn.functional.pad(samples, (HALF, HALF)), 128)[0])
    change = watermarker._encoder(levels[None])[0]
    spectrum = torch.zeros(1, 1025, levels.shape[0])
    spectrum[0, :128] = levels.T
    expected = (perth.perth_net.encoder(spectrum)[0] - spectrum)[0, :128].T
    assert expected.abs().max() > 0.01
    assert torch.allclose(change, expected, atol=2e-6)


def test_spectra_at_24_khz_equal_perth_at_32_khz(perth: Any, speech: Samples) -> None:
    import librosa

    at_32 = librosa.resample(speech, orig_sr=RATE, target_sr=32_000)
    expected = perth.perth_net.ap.signal_to_magphase(at_32)[0][:128].T
    own = level(
        frames(torch.nn.functional.pad(torch.from_numpy(speech)[None], (HALF, HALF), mode="reflect")[0], 128)[0]
    )
    count = min(own.shape[0], expected.shape[0]) - 4
    difference = (own[:count] - expected[:count]).abs()
    # On a scale on which 195 dB are 1. What is 100 dB down is the resampler's noise.
    assert difference[expected[:count] > 0.4].max() < 5e-4
    assert difference[expected[:count] > 0.4].mean() < 1e-6


def test_watermark_equals_perth_except_lookahead(perth: Any, speech: Samples, marked: Samples) -> None:
    import librosa

    expected = perth.apply_watermark(speech, sample_rate=RATE)
    # Perth's resampling takes off the top of the spectrum as well, which is no part of the mark.
    there = librosa.resample(speech, orig_sr=RATE, target_sr=32_000)
    unmarked = librosa.resample(there, orig_sr=32_000, target_sr=RATE)[: expected.size]
    theirs, own = expected - unmarked, (marked - speech)[: expected.size]
    assert np.corrcoef(theirs, own)[0, 1] > 0.995
    assert 0.95 < np.std(own) / np.std(theirs) < 1.06
    assert np.abs(own - theirs).max() < 0.03


def test_nothing_above_2_khz_is_touched(speech: Samples, marked: Samples) -> None:
    power = np.abs(np.fft.rfft(marked - speech)) ** 2
    above = np.fft.rfftfreq(speech.size, 1 / RATE) > 2_100
    assert power[above].sum() < 1e-4 * power.sum()


def test_marked_audio_is_detected(watermarker: Watermarker, perth: Any, speech: Samples, marked: Samples) -> None:
    for samples, expected in ((speech, 0.0), (marked, 1.0)):
        for variant in (samples, through_mp3(samples)):
            assert watermarker.detect(variant, RATE) == pytest.approx(expected, abs=0.03)
            assert perths_answer(perth, variant) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_watermark_survives_resampling(
    watermarker: Watermarker, perth: Any, speech: Samples, marked: Samples, rate: int
) -> None:
    import librosa

    for samples in (speech, marked):
        variant = librosa.resample(samples, orig_sr=RATE, target_sr=rate)
        assert watermarker.detect(variant, rate) == pytest.approx(perths_answer(perth, variant, rate), abs=0.01)
        assert round(watermarker.detect(variant, rate)) == (samples is marked)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_parts_of_stream_are_marked(
    watermarker: Watermarker, perth: Any, speech: Samples, marked: Samples, seconds: float
) -> None:
    # A fifth of a second is 20 of the detector's frames, six of which reach over a cut: it missed the mark in 7 of 217
    # such parts of seven voices, so that more than 6 of 31 have a chance below 1e-4 (binomial).
    missed = 6 if seconds == 0.2 else 0
    size = int(seconds * RATE)
    parts = [slice(start, start + size) for start in range(0, marked.size - size, size)]
    found = [watermarker.detect(marked[part], RATE) for part in parts]
    mistaken = [watermarker.detect(speech[part], RATE) for part in parts]
    assert sum(each <= 0.7 for each in found) <= missed
    assert sum(each >= 0.5 for each in mistaken) <= missed
    for part, each in zip(parts, found, strict=True):
        assert each == pytest.approx(perths_answer(perth, marked[part]), abs=0.05)


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3])
def test_short_utterances_are_marked(watermarker: Watermarker, perth: Any, speech: Samples, seconds: float) -> None:
    word = speech[8_000 : 8_000 + int(seconds * RATE)]
    out = watermarker.whole(word)
    assert out.size == word.size
    assert perths_answer(perth, out) > 0.9
    assert perths_answer(perth, word) < 0.1


def test_word_in_silence_is_marked_and_silence_is_not(watermarker: Watermarker, perth: Any, speech: Samples) -> None:
    samples = np.zeros(6 * RATE, np.float32)
    samples[50_000:59_600] = speech[8_000:17_600]
    out = watermarker.whole(samples)
    assert watermarker.detect(out, RATE) > 0.9
    assert perths_answer(perth, through_mp3(out)) > 0.9
    assert not out[: 50_000 - FRAME].any()
    assert not out[59_600 + FRAME :].any()


def test_silence_stays_silent_and_is_not_marked(watermarker: Watermarker) -> None:
    silence = np.zeros(RATE, np.float32)
    assert not watermarker.whole(silence).any()
    assert watermarker.detect(silence, RATE) == 0.0


@pytest.mark.parametrize("size", [1, 17, 240, 4_800, 12_000, 48_000])
def test_watermark_does_not_depend_on_cuts(
    watermarker: Watermarker, speech: Samples, marked: Samples, size: int
) -> None:
    part = speech if size >= 240 else speech[:2_000]
    expected = marked if size >= 240 else watermarker.whole(part)
    assert np.array_equal(streamed(watermarker, part, same(size)), expected)


def test_watermark_does_not_depend_on_uneven_cuts(watermarker: Watermarker, speech: Samples, marked: Samples) -> None:
    rng = np.random.default_rng(3)
    sizes = (int(size) for size in rng.integers(0, 9_000, 10_000))
    assert np.array_equal(streamed(watermarker, speech, sizes), marked)


def test_watermarked_streams_are_independent(watermarker: Watermarker, speech: Samples) -> None:
    first, second = speech[: 2 * RATE], np.ascontiguousarray(speech[2 * RATE : 4 * RATE])
    streams = [watermarker.stream(), watermarker.stream()]
    out: list[list[Samples]] = [[], []]
    for parts in zip(pieces(first, same(5_000)), pieces(second, same(5_000)), strict=True):
        for chunks, stream, part in zip(out, streams, parts, strict=True):
            chunks.append(stream.push(part))
    for chunks, stream, whole in zip(out, streams, (first, second), strict=True):
        assert np.array_equal(np.concatenate([*chunks, stream.finish()]), watermarker.whole(whole))


@pytest.mark.parametrize("size", [0, 1, 100, 767, 769, 1_440, 3_333])
def test_watermark_keeps_length(watermarker: Watermarker, speech: Samples, size: int) -> None:
    out = watermarker.whole(speech[:size])
    assert out.size == size
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


def test_watermark_latency_is_bounded(watermarker: Watermarker, speech: Samples) -> None:
    stream = watermarker.stream()
    given = taken = 0
    held = []
    for piece in pieces(speech, same(80)):
        given += piece.size
        taken += stream.push(piece).size
        held.append(given - taken)
    assert max(held) <= LONGEST_DELAY
    assert min(held) >= 0
    assert SHORTEST_DELAY <= min(held[-200:]) < SHORTEST_DELAY + 80
    assert watermarker.stream().push(speech[:9_600]).size > 0.7 * 9_600


def test_watermark_blocks_join_without_seams(speech: Samples, marked: Samples) -> None:
    steps = np.abs(np.diff(marked - speech))
    seams = steps[1_440 - 528 - 1 :: 1_440]
    assert seams.max() <= np.quantile(steps, 0.9995)


def test_watermark_does_not_change_input(watermarker: Watermarker, speech: Samples) -> None:
    given = np.frombuffer(speech[:RATE].tobytes(), np.float32)
    assert np.array_equal(watermarker.whole(given), watermarker.whole(speech[:RATE].copy()))
    assert given.tobytes() == speech[:RATE].tobytes()


def test_short_clips_are_detected_as_unmarked(watermarker: Watermarker) -> None:
    for size in (0, 1, 900):
        assert watermarker.detect(np.ones(size, np.float32), RATE) == 0.0


def test_synthetic_voices_are_detected(watermarker: Watermarker) -> None:
    for pitch in (90.0, 140.0, 260.0):
        voice = clips.voiced(2.0, RATE, pitch=pitch)
        assert watermarker.detect(watermarker.whole(voice), RATE) > 0.9
        assert watermarker.detect(voice, RATE) < 0.1


@pytest.mark.gpu
def test_gpu_marks_same(watermarker: Watermarker, speech: Samples, marked: Samples) -> None:
    there = Watermarker.load(torch.device("cuda"))
    there.self_test()
    assert np.abs(streamed(there, speech, same(12_000)) - marked).max() < 2e-3
