"""What a lane is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._core import Model
from .conditionals import Conditionals
from .profiles import Profile
from .render_batch import RenderBatch
from .s3gen.model import S3Gen
from .t3.decoder import Decoder
from .text.encoders import TextEncoder
from .variants import Variant
from .voices import VoiceCache, VoicePreparer
from .watermark.watermarker import Watermarker

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a lane is made of."""

    model: Model
    variant: Variant
    text: TextEncoder
    decoder: Decoder
    s3gen: S3Gen
    preparer: VoicePreparer
    voices: VoiceCache
    builtin: Conditionals | None
    watermarker: Watermarker | None
    rendering: RenderBatch
    profile: Profile
    schedule: tuple[int, ...]
    """The profile's, for this kind of device."""
    clock: Callable[[], float]
    """Seconds that never go back."""
    waiting_slices: int | None = None
    """Slices of one request that may wait to be rendered while tokens are decoded; ``None``: any number."""
