"""S3Gen's weights as a ``MelDecoder``, whose networks torch or this package's own kernels compute."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals
from ..device import Capturer, CudaCapturer
from ..interfaces import MelJob
from ..packed import PackedLinear, Precision
from ..speech_tokens import TOKENS_PER_SECOND
from ..tensors import Tensors
from .estimator import TorchNetwork
from .flow import Flow
from .generator import Generator as TorchGenerator
from .layers import Linear, Weights
from .native import NativeGenerator, NativeNetwork
from .noise import Noise
from .stream import MelStream
from .vocoder import Vocoder

__all__ = ["SPEED_MAX", "SPEED_MIN", "S3Gen"]

SPEED_MIN, SPEED_MAX = 0.5, 2.0

logger = logging.getLogger(__name__)


class S3Gen:
    """Upstream's ``s3gen.py`` without what prepares voices. Makes no copy of a voice and remembers no request."""

    def __init__(self, flow: Flow, vocoder: Vocoder, device: torch.device) -> None:
        self._flow = flow
        self._device = device
        self.vocoder = vocoder
        self.mean_flow = flow.mean_flow
        """Whether two Euler steps without guidance are enough, as in turbo's model; else it takes ten with."""
        self.lookahead = flow.lookahead
        """Lookahead tokens after those to be rendered in a job that is not final."""

    @classmethod
    @torch.inference_mode()
    def from_tensors(
        cls,
        tensors: Tensors,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        backend: Literal["torch", "native"] = "torch",
        precision: Precision = "fp32",
        steps: int | None = None,
        reference_seconds: float | None = None,
    ) -> S3Gen:
        """``dtype`` is the flow's; the vocoder is always float32, for its phases need it.

        The native backend computes the flow's estimator, the encoder's linear layers and the vocoder's generator, which
        nearly all of the time goes into, on the CPU; ``precision`` is that of the flow's weights in them.

        Off upstream's ways are: ``steps``, the Euler steps of a model that is not mean-flow, fewer of which are less
        work; and ``reference_seconds``, after which a voice's reference is cut off for the flow, which works on
        all of it for every slice. ``None`` is as upstream does it. Raises ``CheckpointError`` if the file is of another
        model.
        """
        device = torch.device(device)
        if backend == "native" and (device.type != "cpu" or dtype != torch.float32):
            raise ValueError(f"the native backend computes on the CPU in float32, not on {device} in {dtype}")
        flow = Flow(
            Weights(tensors.scope("flow."), device=device, dtype=dtype),
            network=TorchNetwork if backend == "torch" else partial(NativeNetwork, precision=precision),
            make_linear=Linear if backend == "torch" else partial(PackedLinear, precision=precision),
            steps=steps,
            reference_tokens=None
            if reference_seconds is None
            else max(1, round(reference_seconds * TOKENS_PER_SECOND)),
        )
        vocoder = Vocoder(
            Weights(tensors.scope("mel2wav."), device=device, dtype=torch.float32),
            generator=TorchGenerator if backend == "torch" else NativeGenerator,
        )
        return cls(flow, vocoder, device)

    def warm_up(self, capturer: Capturer | None = None) -> None:
        """Capture the networks, if the device has CUDA graphs or a ``capturer`` is given.

        Takes seconds. Where it does not work out, a warning says why, and they are launched kernel by kernel.
        """
        if capturer is None and self._device.type == "cuda":
            capturer = CudaCapturer(self._device)
        if capturer is None:
            return
        try:
            self._flow.capture(capturer)
            self.vocoder.capture(capturer)
        except Exception as error:
            # Whatever it is, speech without graphs is better than none.
            logger.warning(
                "S3Gen works without some of its CUDA graphs, which is slower: capturing them failed: %s", error
            )

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """Makes the mel frames ``[80, 2 n]`` float32, 50 per second, of each job's own tokens (without the voice's).

        Those of the lookahead are left out where a job is not final. A job comes out the same alone and in any batch.
        Yields after each Euler step, which takes seconds on a CPU, so that something else can be done in between. To be
        run under ``torch.inference_mode()``.
        """
        return self._flow.mels(jobs)

    def check_speed(self, speed: float) -> None:
        """Raises ``RequestError`` for a rate at which stretched frames no longer sound like speech."""
        if not SPEED_MIN <= speed <= SPEED_MAX:
            message = f"Chatterbox speaks between {SPEED_MIN} and {SPEED_MAX}."
            raise RequestError("INVALID_PARAMETER", message, field="speed")

    def stream(self, voice: Conditionals, seed: int, *, speed: float, crossfade_frames: int) -> MelStream:
        return MelStream(voice, self.vocoder, Noise(seed), speed=speed, crossfade_frames=crossfade_frames)

    @torch.inference_mode()
    def mels(self, jobs: Sequence[MelJob]) -> list[Tensor]:
        """The same, at once."""
        steps = self.begin(jobs)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                mels: list[Tensor] = end.value
                return mels
