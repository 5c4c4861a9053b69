"""Upstream's clean-up of an utterance's punctuation: ``punc_norm`` of ``tts.py``, ``mtl_tts.py``, ``tts_turbo.py``."""

from __future__ import annotations

__all__ = ["MULTILINGUAL_ENDS", "SENTENCE_ENDS", "normalise"]

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
