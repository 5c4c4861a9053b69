"""Text as each model reads it: normalised, tokenised, with the ids that T3 expects around it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Protocol

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from ..tensors import CheckpointError
from .languages import LanguageRules

__all__ = [
    "MULTILINGUAL_ENDS",
    "SENTENCE_ENDS",
    "EnglishEncoder",
    "MultilingualEncoder",
    "SubwordEncoder",
    "TextEncoder",
    "normalise",
    "open_tokenizer",
]


SENTENCE_ENDS = (".", "!", "?", "-", ",")
MULTILINGUAL_ENDS = (*SENTENCE_ENDS, "、", "，", "。", "？", "！")

_PLAIN = (
    ("…", ", "),
    (":", ","),
    ("—", "-"),
    ("–", "-"),
    (" ,", ","),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
)
# The order matters: "..." has to go before a space in front of a comma does.
_ALL = (("...", ", "), ("…", ", "), (":", ","), (" - ", ", "), (";", ", "), *_PLAIN[2:])


def normalise(text: str, *, ends: tuple[str, ...] = SENTENCE_ENDS, plain: bool = False) -> str:
    """``text`` with a capital at its start, single spaces, common marks only, and one of ``ends`` at its end.

    ``plain`` leaves dots, semicolons and spaced hyphens alone, as turbo wants them.
    """
    if text[:1].islower():
        text = text[0].upper() + text[1:]
    text = " ".join(text.split())
    for mark, replacement in _PLAIN if plain else _ALL:
        text = text.replace(mark, replacement)
    text = text.rstrip(" ")
    return text if text.endswith(ends) else text + "."


class TextEncoder(Protocol):
    """Turns an utterance into T3's text ids."""

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        """The ids of ``text``, just as upstream hands them to T3; ``language`` is one of the model's or ``None``."""


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


class SubwordEncoder:
    """Text ids of ``turbo`` and ``nano``. ``folder`` has ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    ``tags`` are the added tokens in square brackets: sounds such as ``[laugh]`` that a text may ask for.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = open_tokenizer(folder)
        except Exception as error:  # the library raises Exception itself
            raise CheckpointError(f"{folder}: its tokeniser cannot be read ({error}).") from error
        added = self._tokenizer.get_added_tokens_decoder()
        contents = (added[token].content for token in sorted(added))
        self.tags = tuple(content for content in contents if content.startswith("[") and content.endswith("]"))

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(normalise(text, plain=True)).ids)


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokeniser of the files in ``folder``. The library's errors are plain exceptions."""
    whole = folder / "tokenizer.json"
    if whole.is_file():
        return Tokenizer.from_file(str(whole))
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    added = folder / "added_tokens.json"
    if added.is_file():
        tokens = sorted(json.loads(added.read_text(encoding="utf-8")).items(), key=lambda item: int(item[1]))
        tokenizer.add_tokens([AddedToken(token, normalized=True) for token, _ in tokens])
    return tokenizer
