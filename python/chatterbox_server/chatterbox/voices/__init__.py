"""Voices: reference clips prepared for the models, the built-in ones, and a cache of both kinds' tensors."""

from .builtin import load_builtin
from .cache import VoiceCache
from .portable import read_portable
from .prepare import GPT2_RECIPE, LLAMA_RECIPE, Recipe, VoicePreparer

__all__ = ["GPT2_RECIPE", "LLAMA_RECIPE", "Recipe", "VoiceCache", "VoicePreparer", "load_builtin", "read_portable"]
