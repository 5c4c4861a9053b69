"""What tells one Chatterbox model from another, apart from its weights. Figures are upstream's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .._core import Params
from .t3.sampling import Sampling
from .text.languages import LANGUAGES
from .voices import GPT2_RECIPE, LLAMA_RECIPE, Recipe

__all__ = ["VARIANTS", "Variant", "variant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One model's way of doing things."""

    name: str
    languages: tuple[str, ...]
    sampling: Sampling
    """Upstream's defaults of ``generate``."""
    exaggeration: float
    recipe: Recipe
    closing_silence: int
    """Tokens of silence put after the last one."""
    reports_stop: bool
    """Whether upstream's T3 returns the token that stopped it."""

    def resolve(self, params: Params, seed: int) -> Sampling:
        """The sampling of a request: what it asks for, else the model's defaults."""
        names = ("temperature", "top_p", "min_p", "top_k", "repetition_penalty", "cfg_weight")
        given = {name: getattr(params, name) for name in names if getattr(params, name) is not None}
        return replace(self.sampling, **given, seed=seed)


_LLAMA = Sampling(temperature=0.8, top_p=1.0, min_p=0.05, top_k=0, repetition_penalty=1.2, cfg_weight=0.5, seed=0)
_GPT2 = Sampling(temperature=0.8, top_p=0.95, min_p=0.0, top_k=1000, repetition_penalty=1.2, cfg_weight=0.0, seed=0)

STANDARD = Variant(
    name="standard",
    languages=("en",),
    sampling=_LLAMA,
    exaggeration=0.5,
    recipe=LLAMA_RECIPE,
    closing_silence=0,
    reports_stop=True,
)
TURBO = Variant(
    name="turbo",
    languages=("en",),
    sampling=_GPT2,
    exaggeration=0.0,
    recipe=GPT2_RECIPE,
    closing_silence=3,
    reports_stop=False,
)
MULTILINGUAL = replace(
    STANDARD, name="multilingual", languages=LANGUAGES, sampling=replace(_LLAMA, repetition_penalty=2.0)
)
VARIANTS = {model.name: model for model in (STANDARD, TURBO, MULTILINGUAL, replace(TURBO, name="nano"))}


def variant(name: str, multilingual_version: str) -> Variant:
    """The variant of the model ``name``; version "v3" of multilingual has another default."""
    found = VARIANTS[name]
    if name == "multilingual" and multilingual_version == "v3":
        return replace(found, sampling=_LLAMA)
    return found
