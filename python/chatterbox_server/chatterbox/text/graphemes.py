"""The grapheme tokenisers of the Llama models (upstream's ``models/tokenizers/tokenizer.py``)."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from tokenizers import Tokenizer

from ..tensors import CheckpointError
from .languages import LanguageRules
from .punctuation import MULTILINGUAL_ENDS, normalise

__all__ = ["EnglishEncoder", "MultilingualEncoder"]


class _Graphemes:
    """A tokeniser file whose spaces are a token of their own."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise CheckpointError(f"{path}: cannot be read as a tokeniser ({error}).") from error
        start, stop = self._tokenizer.token_to_id("[START]"), self._tokenizer.token_to_id("[STOP]")
        if start is None or stop is None:
            raise CheckpointError(f"{path}: has no [START] or no [STOP]; is it the file of another model?")
        self._start, self._stop = start, stop

    def encode(self, text: str) -> tuple[int, ...]:
        ids = self._tokenizer.encode(text.replace(" ", "[SPACE]")).ids
        return (self._start, *ids, self._stop)


class EnglishEncoder:
    """Text ids of ``standard``."""

    def __init__(self, path: Path) -> None:
        self._graphemes = _Graphemes(path)

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        return self._graphemes.encode(normalise(text))


class MultilingualEncoder:
    """Text ids of ``multilingual``: lower case, decomposed, with the language's token in front.

    ``cangjie`` is the table that spells Chinese characters; without it Chinese is read letter by letter.
    """

    def __init__(self, path: Path, cangjie: Path | None) -> None:
        self._graphemes = _Graphemes(path)
        self._rules = LanguageRules(cangjie)

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        text = normalise(text, ends=MULTILINGUAL_ENDS)
        text = unicodedata.normalize("NFKD", text.lower())
        if language is None:
            return self._graphemes.encode(text)
        return self._graphemes.encode(f"[{language}]{self._rules.apply(text, language)}")
