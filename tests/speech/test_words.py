"""What a speech recogniser hears is what was written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from measure import Samples, to_float
from recogniser import Recogniser, number_words, word_errors, words
from running_server import Server
from sentences import HARD_SENTENCES, STORY
from voice_client import Pcm, over_http

WINDOW_SECONDS = 27.0
"""The recogniser works on 30 s at a time, however little there is in them: so several sentences go in at once."""


def windows(server: Server) -> Iterator[tuple[Samples, str]]:
    """The hard sentences, each spoken by itself, as many in a row as the recogniser takes; and their words."""
    pause = np.zeros(12_000, np.float32)
    audio: list[Samples] = []
    spoken: list[str] = []
    for text, reading in HARD_SENTENCES:
        samples = to_float(over_http(server, text))
        if (sum(part.size for part in audio) + samples.size) / 24_000 > WINDOW_SECONDS:
            yield np.concatenate(audio), " ".join(spoken)
            audio, spoken = [], []
        audio += [samples, pause]
        spoken.append(reading)
    yield np.concatenate(audio), " ".join(spoken)


def test_hard_sentences_are_read_correctly(lite: Server, recogniser: Recogniser) -> None:
    wrong, total, heard_all = 0, 0, []
    for samples, spoken in windows(lite):
        wanted, heard = words(spoken), words(recogniser.transcript(samples, 24_000))
        wrong += word_errors(wanted, heard)
        total += len(wanted)
        heard_all.append(" ".join(heard))
    assert wrong <= 0.05 * total, heard_all


@pytest.mark.parametrize("rate", [8000, 48_000])
def test_words_survive_other_rates(lite: Server, recogniser: Recogniser, rate: int) -> None:
    text = STORY.split("\n\n")[2]
    samples = to_float(over_http(lite, text, rate))
    wanted, heard = words(text), words(recogniser.transcript(samples, rate))
    assert word_errors(wanted, heard) <= 0.05 * len(wanted), heard


@pytest.mark.parametrize("paragraph", [1, 3], ids=["at clauses", "between words"])
def test_sentences_cut_for_their_length_keep_every_word(lite: Server, recogniser: Recogniser, paragraph: int) -> None:
    text = STORY.split("\n\n")[paragraph]
    assert text.count(".") == 1
    assert len(text) > 150
    heard = words(recogniser.transcript(to_float(over_http(lite, text)), 24_000))
    assert heard == words(text)


def test_story_equals_its_paragraphs(lite: Server, story: Pcm) -> None:
    """Nothing is said twice and nothing left out between paragraphs, however they are put together."""
    apart = sum(over_http(lite, paragraph).size for paragraph in STORY.split("\n\n"))
    # What a beginning and an end keep of near silence (0.2 s) is not what a pause is (0.7 s).
    assert story.size == pytest.approx(apart + 3 * 0.5 * 24_000, abs=3 * 0.2 * 24_000)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It's 7:30 PM.", "it's seven thirty p.m."),
        ("$9.99 or $1", "nine dollars and ninety-nine cents or one dollar"),
        ("$2.5 million", "two point five million dollars"),
        ("1,250,003 of 1984, 2001 and 2024", "one million two hundred fifty thousand three of nineteen eighty-four, "
         "two thousand one and twenty twenty-four"),
        ("the 21st, 12th and 30th", "the twenty-first, twelfth and thirtieth"),
        ("3.14 is 45%", "three point one four is forty-five percent"),
        ("Dr. Jones of the U.S., at example.com", "doctor jones of the us at example dot com"),
    ],
)  # fmt: skip
def test_comparison_normalises_numbers(written: str, spoken: str) -> None:
    assert words(written) == words(spoken)


def test_comparison_counts_errors() -> None:
    assert word_errors(["to", "the", "big", "ship"], ["to", "a", "big", "ship"]) == 1
    assert word_errors(["to", "the", "big", "ship"], ["the", "big", "ship", "ship"]) == 2
    assert word_errors([], ["a"]) == word_errors(["a"], []) == 1
    assert number_words(2_000_115) == "two million one hundred fifteen"
