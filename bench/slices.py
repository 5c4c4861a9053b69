"""How far a streamed utterance's mel is from the same utterance rendered as a whole, slice by slice.

``python bench/slices.py MODEL_PATH --model turbo`` needs a checkpoint (``make install-chatterbox``); random weights
show the effect of slicing, not of the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from chatterbox_server._core import Slicing
from chatterbox_server.chatterbox.checkpoint import locate
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.interfaces import MelJob
from chatterbox_server.chatterbox.model_spec import PROFILES
from chatterbox_server.chatterbox.rendering import Slicer
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.speech_tokens import LOOKAHEAD
from chatterbox_server.chatterbox.tensors import open_tensors
from chatterbox_server.chatterbox.voices.files import load_builtin
from torch import Tensor

DECIBELS_PER_NEPER = 8.686


def render(s3gen: S3Gen, voice: Conditionals, noise: Noise, tokens: Tensor, start: int, *, final: bool) -> Tensor:
    """The mel of ``tokens``, the first of which is the utterance's ``start``-th."""
    job = MelJob(
        voice=voice,
        tokens=tokens,
        noise=noise.mel(2 * start, 2 * len(tokens)),
        prompt_noise=noise.prompt(voice.s3_mel.shape[0]),
        final=final,
    )
    return s3gen.mels([job])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_path", type=Path)
    parser.add_argument("--model", default="turbo")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the utterance")
    parser.add_argument("--context", type=int, default=None, help="tokens of context; default: the server's")
    parser.add_argument("--profile", choices=PROFILES, default="balanced", help="whose slices")
    parser.add_argument("--cpu", action="store_true", help="as they are on a CPU; default: on a GPU")
    given = parser.parse_args()

    files = locate(
        given.model, model_path=given.model_path, multilingual_version="v2", progress=lambda what, done, total: None
    )
    if files.conditionals is None:
        parser.error("the checkpoint has no built-in voice (conds.pt)")
    s3gen = S3Gen.from_tensors(open_tensors(files.s3gen), device="cpu", dtype=torch.float32)
    voice, noise = load_builtin(files.conditionals), Noise(1)
    tokens = torch.randint(0, 6561, (round(25 * given.seconds),), generator=torch.Generator().manual_seed(0))
    whole = render(s3gen, voice, noise, tokens, 0, final=True)
    other = render(s3gen, voice, Noise(2), tokens, 0, final=True)
    print(f"another seed, whole:      {(other - whole).abs().mean() * DECIBELS_PER_NEPER:6.2f} dB")
    slicing = Slicing(tokens_per_slice=None, context_window=given.context, overlap=None, crossfade_ms=None)
    profile = PROFILES[given.profile]
    slicer = Slicer(slicing, profile.cpu_schedule if given.cpu else profile.schedule, stream=True)
    while (part := slicer.next(len(tokens), ended=True)) is not None:
        end = part.end + (0 if part.final else LOOKAHEAD)
        mel = render(s3gen, voice, noise, tokens[part.context : end], part.context, final=part.final)
        mel = mel[:, 2 * (part.start - part.context) :]
        distance = (mel - whole[:, 2 * part.start : 2 * part.end]).abs().mean(0) * DECIBELS_PER_NEPER
        seam = f", first two frames {distance[:2].mean():.2f} dB" if part.start else ""
        print(f"tokens {part.start:4} to {part.end:4}:     {distance.mean():6.2f} dB{seam}")
        if part.final:
            break


if __name__ == "__main__":
    main()
