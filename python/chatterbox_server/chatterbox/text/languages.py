"""Rules of single languages, each applied to lower-case text in NFKD form.

They equal upstream's ``models/tokenizers/tokenizer.py``. What they need is loaded at the first text of the language;
where a package is missing, text goes to the model as it is, after one warning.
"""

from __future__ import annotations

import functools
import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..tensors import CheckpointError

__all__ = ["LANGUAGES", "LanguageRules"]

logger = logging.getLogger(__name__)

# English first: it is what a text without a language is taken for.
# fmt: off
LANGUAGES = ("en", "ar", "da", "de", "el", "es", "fi", "fr", "he", "hi", "it", "ja", "ko", "ms", "nl", "no", "pl", "pt",
             "ru", "sv", "sw", "tr", "zh")
# fmt: on

Rule = Callable[[str], str]


class LanguageRules:
    """The rules of all languages. ``cangjie`` is the path of ``Cangjie5_TC.json``, if it is there."""

    def __init__(self, cangjie: Path | None) -> None:
        makers: dict[str, Callable[[], Rule]] = {
            "zh": lambda: _Chinese(cangjie),
            "ja": _japanese,
            "he": _hebrew,
            "ko": lambda: _korean,
            "ru": _russian,
        }
        self._make = {
            language: functools.cache(functools.partial(_made, language, make)) for language, make in makers.items()
        }

    def apply(self, text: str, language: str) -> str:
        make = self._make.get(language)
        return make()(text) if make else text


def _made(language: str, make: Callable[[], Rule]) -> Rule:
    try:
        rule = make()
    except ImportError as error:
        logger.warning("text in %s goes to the model as it is: %s", language, error)
        return lambda text: text

    def apply(text: str) -> str:
        try:
            return rule(text)
        except Exception as error:  # third-party rules written for prose trip over odd input
            logger.warning("a text in %s goes to the model as it is: %r", language, error)
            return text

    return apply


def _japanese() -> Rule:
    import pykakasi

    kakasi = pykakasi.kakasi()

    def reading(part: dict[str, str]) -> str:
        written, kana = part["orig"], part["hira"]
        if not any("\u4e00" <= character <= "\u9fff" for character in written):
            return written
        # A word that begins like the particles wa and e would be read as one of them.
        return f" {kana}" if kana[:1] in ("は", "へ") else kana

    return lambda text: unicodedata.normalize("NFKD", "".join(map(reading, kakasi.convert(text))))


def _hebrew() -> Rule:
    from dicta_onnx import Dicta

    rule: Rule = Dicta().add_diacritics
    return rule


def _russian() -> Rule:
    from russian_text_stresser.text_stresser import RussianTextStresser

    rule: Rule = RussianTextStresser().stress_text
    return rule


def _korean(text: str) -> str:
    # NFKD has made letters of the syllables already.
    return text.strip()


class _Chinese:
    """Characters spelled in Cangjie, words apart."""

    def __init__(self, table: Path | None) -> None:
        self._codes = _cangjie(table) if table else {}
        if not self._codes:
            logger.warning("Chinese text goes to the model unspelled: Cangjie5_TC.json is not in the checkpoint")
        self._segmenter = _segmenter()

    def __call__(self, text: str) -> str:
        if self._segmenter is not None:
            text = " ".join(self._segmenter.cut(text))
        return "".join(map(self._spelled, text))

    def _spelled(self, character: str) -> str:
        code = self._codes.get(character) if unicodedata.category(character) == "Lo" else None
        return character if code is None else "".join(f"[cj_{key}]" for key in code) + "[cj_.]"


def _cangjie(path: Path) -> dict[str, str]:
    """Code of each character; characters that share a code are told apart by a number, in the file's order."""
    try:
        rows = [entry.split("\t")[:2] for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a Cangjie table ({error}).") from error
    sharing: dict[str, list[str]] = {}
    for character, code in rows:
        sharing.setdefault(code, []).append(character)
    codes = {}
    for character, code in rows:
        index = sharing[code].index(character)
        codes[character] = f"{code}{index or ''}"
    return codes


def _segmenter() -> Any:
    """pkuseg, if its model is on this machine: a text must not wait for a download."""
    from spacy_pkuseg import config, pkuseg

    if not (Path(config.pkuseg_home) / "spacy_ontonotes").is_dir():
        logger.warning(
            "Chinese text is not cut into words; "
            "to have it done, run once: python -c 'import spacy_pkuseg; spacy_pkuseg.pkuseg()'"
        )
        return None
    return pkuseg()
