"""Upstream's T3 as the reference for ours: both run on the same weights, voice, text and random numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from chatterbox_server.bench.random_weights import t3_config
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.t3.config import SPEECH_IDS, STOP_SPEECH, Prompt, T3Config
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3, Backbone
from chatterbox_server.chatterbox.t3.sampling import Draw, Sampling
from chatterbox_server.chatterbox.t3.torch_backbone import Weights
from chatterbox_server.chatterbox.tensors import Tensors, open_tensors
from torch import Tensor
from torch.nn import functional

__all__ = [
    "LLAMA",
    "Pick",
    "Recorder",
    "alone",
    "draws",
    "likeliest",
    "load",
    "load_upstream",
    "multinomial",
    "prompt",
    "reference",
    "sampling",
    "tensors",
]

LLAMA = ("standard", "multilingual")
FILES = {
    "standard": "t3_cfg.safetensors",
    "multilingual": "t3_mtl23ls_v2.safetensors",
    "turbo": "t3_turbo_v1.safetensors",
    "nano": "t3_nano_v1.safetensors",
}
TABLE = {"standard": 8194, "multilingual": 8194, "turbo": SPEECH_IDS, "nano": SPEECH_IDS}
"""Columns of upstream's probabilities, of which ours keeps the first."""
NEVER = -1e4
"""A logit so low that its token has no probability. Not minus infinity, which guidance would turn into a NaN."""

Pick = Callable[[Tensor], Tensor]
"""Token ids ``[rows, 1]`` from probabilities ``[rows, ids]``, for upstream's ``torch.multinomial``."""


def tensors(kind: str, folder: Path) -> Tensors:
    return open_tensors(folder / FILES[kind])


def load(kind: str, folder: Path) -> T3:
    return T3.from_tensors(tensors(kind, folder), device="cpu", dtype=torch.float32)


def load_upstream(kind: str, folder: Path) -> Any:
    """Upstream's T3 with the weights of ``folder``. Upstream's release has no loader for nano, but its class fits."""
    from chatterbox.models.t3 import T3 as Upstream

    t3 = Upstream(t3_config(kind))
    t3.load_state_dict(dict(tensors(kind, folder)))
    return t3.eval()


class Recorder(T3):
    """Keeps the logits that it gives."""

    def __init__(self, config: T3Config, weights: Weights, backbone: Backbone) -> None:
        super().__init__(config, weights, backbone)
        self.recorded: list[Tensor] = []

    def logits(self, hidden: Tensor) -> Tensor:
        logits = super().logits(hidden)
        self.recorded.append(logits)
        return logits


def prompt(kind: str, number: int = 0, *, words: int = 9, exaggeration: float = 0.5, voice: int = 0) -> Prompt:
    """Random text and voice, the same for the same numbers."""
    text = torch.randint(1, 255, (words,), generator=torch.Generator().manual_seed(1000 + number)).tolist()
    generator = torch.Generator().manual_seed(2000 + voice)
    # Turbo's prompts are as long as the clips were.
    count = 150 - 20 * (voice % 3)
    made = Conditionals(
        t3_speaker=functional.normalize(torch.rand(256, generator=generator), dim=0),
        t3_tokens=torch.randint(0, 6561, (count,), generator=generator),
        s3_tokens=torch.zeros(0, dtype=torch.int64),
        s3_mel=torch.zeros(0, 80),
        s3_speaker=torch.zeros(192),
    )
    ids = (255, *text, 0) if kind in LLAMA else tuple(text)
    return Prompt(text_ids=ids, voice=made, voice_key=f"voice{voice}", exaggeration=exaggeration)


def sampling(kind: str, **changes: Any) -> Sampling:
    """Upstream's defaults of ``kind``, changed."""
    settings: dict[str, Any] = {"temperature": 0.8, "repetition_penalty": 1.2, "seed": 0}
    if kind in LLAMA:
        settings |= {"top_p": 1.0, "min_p": 0.05, "top_k": 0, "cfg_weight": 0.5}
    else:
        settings |= {"top_p": 0.95, "min_p": 0.0, "top_k": 1000, "cfg_weight": 0.0}
    return Sampling(**{**settings, **changes})


def multinomial(seed: int) -> Pick:
    """``torch.multinomial`` itself, from ``seed`` on."""
    generator, draw = torch.Generator().manual_seed(seed), torch.multinomial
    return lambda probabilities: draw(probabilities, 1, generator=generator)


def likeliest(probabilities: Tensor) -> Tensor:
    return probabilities.argmax(-1, keepdim=True)


def draws(kind: str, pick: Pick) -> Draw:
    """Let our decoder pick as upstream does, from a table of upstream's width."""

    def draw(probabilities: Tensor, requests: Sequence[int]) -> Tensor:
        del requests
        return pick(functional.pad(probabilities, (0, TABLE[kind] - SPEECH_IDS)))[:, 0]

    return draw


def alone(t3: T3, wanted: Prompt, how: Sampling, count: int, draw: Draw | None = None) -> list[int]:
    """The tokens of a request decoded by itself, the stop token included."""
    decoder = Decoder(t3, slots=1, draw=draw)
    decoder.add(1, wanted, how, count)
    tokens: list[int] = []
    while not decoder.idle:
        tokens += [STOP_SPEECH if token.id is None else token.id for token in decoder.step()]
    return tokens


def reference(
    kind: str, t3: Any, wanted: Prompt, how: Sampling, count: int, *, pick: Pick
) -> tuple[list[int], list[Tensor]]:
    """Upstream's tokens, the stop token included, and its raw logits ``[rows, SPEECH_IDS]`` of each step.

    Ids above the stop token get no probability. The multilingual model's alignment analyzer, which upstream has removed
    since, does nothing.
    """
    from chatterbox.models.t3 import t3 as module
    from chatterbox.models.t3.modules.cond_enc import T3Cond

    recorded: list[Tensor] = []

    def head(_module: Any, _inputs: Any, logits: Tensor) -> Tensor:
        recorded.append(logits[:, -1, :SPEECH_IDS].clone())
        logits[..., SPEECH_IDS:] = NEVER
        return logits

    voice = wanted.voice
    conditions = T3Cond(
        speaker_emb=voice.t3_speaker[None],
        cond_prompt_speech_tokens=voice.t3_tokens[None],
        emotion_adv=wanted.exaggeration * torch.ones(1, 1, 1),
    )
    text = torch.tensor([wanted.text_ids])
    analyzer = mock.Mock()
    analyzer.return_value.eos_idx = STOP_SPEECH
    analyzer.return_value.step = lambda logits, next_token: logits
    hook = t3.speech_head.register_forward_hook(head)
    try:
        with (
            torch.inference_mode(),
            mock.patch.object(torch, "multinomial", lambda probabilities, num_samples: pick(probabilities)),
            mock.patch.object(module, "AlignmentStreamAnalyzer", analyzer),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            if kind in LLAMA:
                tokens = t3.inference(
                    t3_cond=conditions,
                    text_tokens=text.expand(2, -1),
                    max_new_tokens=count,
                    temperature=how.temperature,
                    top_p=how.top_p,
                    min_p=how.min_p,
                    repetition_penalty=how.repetition_penalty,
                    cfg_weight=how.cfg_weight,
                )
            else:
                tokens = t3.inference_turbo(
                    conditions,
                    text,
                    temperature=how.temperature,
                    top_k=how.top_k,
                    top_p=how.top_p,
                    repetition_penalty=how.repetition_penalty,
                    max_gen_len=count - 1,
                )
    finally:
        hook.remove()
    # Upstream's Llama loop computes one step that it does not look at.
    return tokens[0].tolist(), recorded[: tokens.shape[1]]
