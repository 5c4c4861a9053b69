"""Text as each model reads it: normalised, tokenised, with the ids that T3 expects around it."""

from .encoder import TextEncoder
from .graphemes import EnglishEncoder, MultilingualEncoder
from .subwords import SubwordEncoder

__all__ = ["EnglishEncoder", "MultilingualEncoder", "SubwordEncoder", "TextEncoder"]
