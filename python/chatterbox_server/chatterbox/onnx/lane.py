"""A model that speaks through ONNX graphs, and its requests."""

from __future__ import annotations

from ..._core import Enroll, Speak
from ...model_runner import RequestError
from ..conditionals import Conditionals
from ..lane import ChatterboxLane
from ..rendering import RenderOptions, SliceRendering
from ..text.encoders import TextEncoder
from .rendering import WaveRendering

__all__ = ["GraphLane", "OnnxText"]


class OnnxText:
    """A text encoder whose texts have at least two ids, for the graphs take one alone for speech."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        ids = self._encoder.encode(text, language)
        if len(ids) < 2:
            raise RequestError("INVALID_PARAMETER", "is too short for BACKEND=onnx; add a word.", field="text")
        return ids


class GraphLane(ChatterboxLane):
    """The lane of the weights, but for what is made of an utterance's tokens."""

    def submit(self, speak: Speak) -> None:
        if speak.params.speed != 1.0:
            message = "BACKEND=onnx speaks at 1.0 alone, for its graphs show no frames that could be stretched."
            raise RequestError("INVALID_PARAMETER", message, field="speed")
        super().submit(speak)

    def enroll(self, command: Enroll) -> None:
        if command.portable is not None:
            message = "BACKEND=onnx prepares voices in its own way; upload the clip that this one was made of."
            raise RequestError("CANNOT_CLONE", message, field="voice")
        super().enroll(command)

    def _rendering(
        self, voice: Conditionals, seed: int, options: RenderOptions, closing: tuple[int, ...] = ()
    ) -> SliceRendering:
        watermarker = self._parts.watermarker
        marker = watermarker.stream() if watermarker else None
        return WaveRendering(voice=voice, options=options, marker=marker, closing=closing)
