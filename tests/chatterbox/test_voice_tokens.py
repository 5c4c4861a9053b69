from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
import torch
from chatterbox_server.chatterbox.tensors import Tensors, open_tensors
from chatterbox_server.chatterbox.voices.prepare import TorchVoicePreparer
from chatterbox_server.chatterbox.voices.tokenizer import SpeechTokenizer
from torch import Tensor
from voice_preparation import finish

# Seconds of audio for one window of the tokeniser, just one, two and three.
SEAMS = (3.0, 29.99, 31.0, 62.0)


@pytest.mark.parametrize("seconds", SEAMS)
def test_tokens_for_conversion_equal_upstream(
    preparers: Callable[[str], TorchVoicePreparer], reference: Callable[[str], Any], tmp_path: Path, seconds: float
) -> None:
    clip = clips.voiced(seconds, 22_050)
    own = converted_upstream(reference("standard"), clips.write(tmp_path / "clip.wav", clip, 22_050))
    assert torch.equal(finish(preparers("standard").tokens(clip, 22_050)), own)


def converted_upstream(model: Any, path: Path) -> Tensor:
    import librosa

    audio, _ = librosa.load(path, sr=16_000)
    with torch.inference_mode():
        tokens: Tensor = model.s3gen.tokenizer(torch.from_numpy(audio)[None])[0][0]
    return tokens


@pytest.mark.parametrize(("seconds", "lost"), [(53, 50), (55, 25)])
def test_speech_dropped_by_upstream_is_kept(
    preparers: Callable[[str], TorchVoicePreparer],
    reference: Callable[[str], Any],
    tmp_path: Path,
    seconds: int,
    lost: int,
) -> None:
    clip = clips.voiced(seconds, 16_000)
    own = converted_upstream(reference("standard"), clips.write(tmp_path / "clip.wav", clip, 16_000))
    tokens = finish(preparers("standard").tokens(clip, 16_000))
    assert own.shape == (seconds * 25 - lost,)
    assert tokens.shape == (seconds * 25,)
    assert torch.equal(tokens[:-50], own[: seconds * 25 - 50])


def test_weights_stay_in_mapped_file(checkpoints: Callable[[str], Path]) -> None:
    tensors = open_tensors(checkpoints("standard") / "s3gen.safetensors").scope("tokenizer.")
    places = {tensor.data_ptr() for tensor in tensors.values()}
    taken: list[Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, Tensor):
            taken.append(value)
        elif isinstance(value, tuple | list):
            for one in value:
                collect(one)
        elif hasattr(value, "__dict__"):
            collect(list(vars(value).values()))

    collect(SpeechTokenizer(tensors, torch.device("cpu")))
    made = [tensor for tensor in taken if tensor.data_ptr() not in places]
    # The table of the rotary positions.
    assert [tensor.dtype for tensor in made] == [torch.complex64]
    assert len(taken) > 20


def test_half_precision_weights_give_same_tokens(checkpoints: Callable[[str], Path]) -> None:
    tensors = open_tensors(checkpoints("standard") / "s3gen.safetensors").scope("tokenizer.")
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    wholes = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in halves.items()}
    audio = torch.from_numpy(np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32))
    found, wanted = (
        finish(SpeechTokenizer(Tensors(tensors.path, each), torch.device("cpu")).tokens(audio))
        for each in (halves, wholes)
    )
    assert wanted.numel() == 50
    assert torch.equal(found, wanted)
