"""The audio as a signal: rates, pauses, level, and no click anywhere."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pyloudnorm
import pytest
import soundfile
import soxr
from measure import Gap, Samples, band_share, difference_db, gaps, jumps, low_band, to_float
from running_server import Server
from sentences import STORY
from voice_client import Pcm, body, over_http

RATES = [8000, 16_000, 22_050, 44_100, 48_000]
TEXT = STORY.split("\n\n")[0]


@pytest.fixture(scope="module")
def own_rate(lite: Server) -> Samples:
    """The text at the rate that the voice speaks at."""
    return to_float(over_http(lite, TEXT))


@pytest.fixture(scope="module")
def pauses(story: Pcm) -> list[Gap]:
    return gaps(to_float(story), 24_000)


@pytest.mark.parametrize("rate", RATES)
def test_sample_rate_changes_rate_only(lite: Server, own_rate: Samples, rate: int) -> None:
    """The stream, resampled chunk by chunk, is what one resampling of the whole gives: a seam would stand out."""
    samples = to_float(over_http(lite, TEXT, rate))
    assert samples.size == pytest.approx(own_rate.size * rate / 24_000, abs=1)
    reference = np.asarray(soxr.resample(own_rate, 24_000, rate, quality="VHQ"), np.float32)
    # Up to 3 kHz, where any two good filters agree. One wrong sample is 40 to 55 dB below the speech, one left out 10.
    assert difference_db(low_band(samples, rate), low_band(reference, rate)) < -70


@pytest.mark.parametrize("rate", [8000, 48_000])
def test_sample_rate_label_matches(lite: Server, own_rate: Samples, rate: int) -> None:
    """Its pitch is right at the rate that the WAV header names."""
    request = body(TEXT) | {"audio": {"format": "wav", "sample_rate": rate}, "stream": False}
    samples, labelled = soundfile.read(
        io.BytesIO(httpx.post(f"{lite.url}/api/tts", json=request, timeout=100).content), dtype="float32"
    )
    assert labelled == rate
    below = own_rate if rate > 24_000 else np.asarray(soxr.resample(own_rate, 24_000, rate), np.float32)
    native = min(rate, 24_000)
    for edge in (150, 500, 1500):
        assert band_share(samples, rate, edge) == pytest.approx(band_share(below, native, edge), abs=0.02)
    # A rate above the voice's own adds no sound: no image of it, no zeros between samples.
    assert band_share(samples, rate, 12_500) < 1e-5


def test_pauses_match_reader(pauses: list[Gap]) -> None:
    """Between lines 0.7 s, between sentences 0.35 s, nowhere a hole: what a person reading aloud leaves."""
    lengths = [gap.seconds for gap in pauses]
    assert max(lengths) < 1.2
    paragraphs = [seconds for seconds in lengths if seconds > 0.6]
    assert len(paragraphs) == STORY.count("\n\n")
    assert paragraphs == pytest.approx([0.7] * len(paragraphs), abs=0.03)


def test_pauses_between_sentences(lite: Server) -> None:
    sentences = "We are home. Nobody is here. I will wait. Dinner is ready."
    found = [gap.seconds for gap in gaps(to_float(over_http(lite, sentences)), 24_000, 0.2)]
    assert len(found) == 3
    assert all(0.2 <= seconds <= 0.6 for seconds in found)


def test_pauses_follow_pace(lite: Server) -> None:
    text = "We are home. Nobody is here."
    for speed in (0.5, 2.0):
        (gap,) = gaps(to_float(over_http(lite, text, speed=speed)), 24_000, 0.12)
        assert gap.seconds == pytest.approx(0.35 / speed, abs=0.03)


def test_joins_do_not_click(story: Pcm, pauses: list[Gap]) -> None:
    """Where speech meets a pause the signal hardly moves; inside speech a step may be fifty times as large."""
    steps = jumps(to_float(story))
    for gap in pauses:
        for edge in (gap.begin, gap.end):
            at = int(edge * 24_000)
            assert steps[at - 24 : at + 24].max() < 0.05


def test_level(story: Pcm) -> None:
    samples = to_float(story)
    assert np.abs(samples).max() < 0.98
    assert abs(samples.mean()) < 1e-3
    loudness = pyloudnorm.Meter(24_000).integrated_loudness(samples.astype(np.float64))
    assert loudness == pytest.approx(-20.0, abs=1.5)


def test_beginning_and_end(story: Pcm) -> None:
    """Speech begins at once and the end is not cut off."""
    samples = to_float(story)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    assert loud[0] < 0.15 * 24_000
    assert 0.05 * 24_000 < samples.size - loud[-1] < 0.5 * 24_000
    assert np.abs(samples[-24:]).max() < 0.01
