"""S3Gen as it is loaded."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from ..tensors import Tensors
from .flow import Flow, MelJob
from .layers import Weights
from .vocoder import Vocoder

__all__ = ["S3Gen"]


class S3Gen:
    """Upstream's ``s3gen.py`` without what prepares voices. Makes no copy of a voice and remembers no request."""

    def __init__(self, flow: Flow, vocoder: Vocoder) -> None:
        self._flow = flow
        self.vocoder = vocoder
        self.mean_flow = flow.mean_flow
        """Whether two Euler steps without guidance are enough, as in turbo's model; else it takes ten with."""
        self.lookahead = flow.lookahead
        """Tokens that follow those to be heard in a job that is not final."""

    @classmethod
    @torch.inference_mode()
    def from_tensors(cls, tensors: Tensors, *, device: torch.device | str, dtype: torch.dtype) -> S3Gen:
        """``dtype`` is the flow's; the vocoder is always float32, for its phases need it.

        Raises ``CheckpointError`` if the file is of another model.
        """
        device = torch.device(device)
        flow = Flow(Weights(tensors.scope("flow."), device=device, dtype=dtype))
        vocoder = Vocoder(Weights(tensors.scope("mel2wav."), device=device, dtype=torch.float32))
        return cls(flow, vocoder)

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """Makes the mel frames ``[80, 2 n]`` float32, 50 per second, of each job's own tokens (without the voice's).

        Those of the lookahead are left out where a job is not final. A job comes out the same alone and in any batch.
        Yields after each Euler step, which takes seconds on a CPU, so that something else can be done in between. To be
        run under ``torch.inference_mode()``.
        """
        return self._flow.mels(jobs)

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
