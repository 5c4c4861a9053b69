"""The byte-level tokeniser of the GPT-2 models."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from ..tensors import CheckpointError
from .punctuation import normalise

__all__ = ["SubwordEncoder", "open_tokenizer"]


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
