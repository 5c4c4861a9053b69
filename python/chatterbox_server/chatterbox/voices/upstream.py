"""Upstream's networks that listen to a clip. The only place that imports upstream's code, and only when called.

They run once per voice, so nothing would be gained by writing them anew. They are built of the sizes that the weights
have, without touching memory for them, and then given the mapped weights themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..tensors import CheckpointError, Tensors

__all__ = ["import_all", "resampler", "speaker_encoder", "token_encoder", "upstream_module", "voice_encoder"]

ROOT = f"{__package__}.models"
TOKEN_HEAD = 64
"""Channels of an attention head of the speech tokeniser, which its rotary table fixes."""
HEAVY_IMPORTS = (
    "torchaudio.compliance.kaldi",
    "scipy.stats",
    "scipy.signal",
    "numba",
    "librosa.core.audio",
    "librosa.effects",
    "pyloudnorm",
    "s3tokenizer.model_v2",
)
"""What the modules below and this package import, in pieces of less than a second."""
ALIGNMENT = 64
"""Bytes to which PyTorch aligns memory of its own."""
MODULES = ("s3gen.xvector", "s3gen.utils.mel", "voice_encoder.voice_encoder")


class _Unfilled(TorchFunctionMode):
    """Leaves untouched the memory that a network fills with random numbers when it is built: weights take its place.

    Memory that is never touched takes no room. Building on the ``meta`` device would come to the same, but makes
    PyTorch import its compiler, for six seconds.
    """

    FILLS = (Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function in self.FILLS or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def import_all() -> Iterator[None]:
    """Import what preparing a voice needs, some seconds in all, yielding between the heavier parts."""
    for name in HEAVY_IMPORTS:
        importlib.import_module(name)
        yield
    for name in MODULES:
        upstream_module(name)
    yield


def upstream_module(name: str) -> Any:
    """The module ``name`` below upstream's ``chatterbox.models``.

    Importing it under its own name would run ``chatterbox/__init__.py`` and ``models/s3gen/__init__.py``, which import
    every model, their training helpers and the watermarker: 12 s and 220 MB for nothing. So upstream's files are
    loaded below an empty package of ours, beside which upstream's real package can still be imported.
    """
    folder = _models_folder()
    _empty_package(ROOT, folder)
    parents = name.split(".")[:-1]
    if parents[0] == "s3gen":
        for depth in range(1, len(parents) + 1):
            _empty_package(f"{ROOT}.{'.'.join(parents[:depth])}", folder.joinpath(*parents[:depth]))
    return importlib.import_module(f"{ROOT}.{name}")


def _models_folder() -> Path:
    spec = importlib.util.find_spec("chatterbox")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("Preparing a voice needs the package chatterbox-tts, which is not installed.")
    return Path(spec.submodule_search_locations[0]) / "models"


def _empty_package(name: str, folder: Path) -> None:
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)


def token_encoder(tensors: Tensors, device: torch.device) -> tuple[Any, Any]:
    """The speech tokeniser's encoder and quantiser, from the ``tokenizer.`` part of S3Gen's file."""
    model_v2: Any = importlib.import_module("s3tokenizer.model_v2")
    width, mels, _ = tensors["encoder.conv1.weight"].shape
    blocks = {name.split(".")[2] for name in tensors if name.startswith("encoder.blocks.")}
    if not blocks:
        raise CheckpointError(f"{tensors.path}: there are no blocks of the speech tokeniser in it.")
    layers = 1 + max(map(int, blocks))
    with _Unfilled():
        encoder = model_v2.AudioEncoderV2(mels, width, width // TOKEN_HEAD, layers, 2, False)
        quantizer = model_v2.FSQVectorQuantization(width, 3**8)
    # The rotary table is no buffer, so it does not move along.
    encoder.freqs_cis = encoder.freqs_cis.to(device)
    _fill(encoder, tensors.scope("encoder."), device)
    _fill(quantizer, tensors.scope("quantizer."), device)
    return encoder, quantizer


def resampler(rate: int, target: int, device: torch.device) -> Any:
    """torchaudio's resampler, which upstream's ``embed_ref`` uses; its bits differ from ``librosa``'s."""
    return importlib.import_module("torchaudio.transforms").Resample(rate, target).to(device)


def speaker_encoder(tensors: Tensors, device: torch.device) -> Any:
    """CAMPPlus, from the ``speaker_encoder.`` part of S3Gen's file."""
    layer = "xvector.block1.tdnnd1"
    growth = tensors[f"{layer}.cam_layer.linear_local.weight"].shape[0]
    with _Unfilled():
        network = upstream_module("s3gen.xvector").CAMPPlus(
            embedding_size=tensors["xvector.dense.linear.weight"].shape[0],
            growth_rate=growth,
            bn_size=tensors[f"{layer}.linear1.weight"].shape[0] // growth,
            init_channels=tensors["xvector.tdnn.linear.weight"].shape[0],
            memory_efficient=False,
        )
    return _fill(network, tensors, device, align=True)


def voice_encoder(tensors: Tensors, device: torch.device) -> Any:
    """T3's voice encoder, from its own file."""
    module = upstream_module("voice_encoder.voice_encoder")
    hp = module.VoiceEncConfig()
    hp.num_mels = tensors["lstm.weight_ih_l0"].shape[1]
    hp.ve_hidden_size = tensors["lstm.weight_hh_l0"].shape[1]
    hp.speaker_embed_size = tensors["proj.weight"].shape[0]
    with _Unfilled():
        network = module.VoiceEncoder(hp)
    return _fill(network, tensors, device, align=True)


def _fill(network: Any, tensors: Tensors, device: torch.device, *, align: bool = False) -> Any:
    """Give ``network`` all of its weights. On the CPU they stay in the mapped file.

    ``align`` copies those that lie askew there, as most of a safetensors file do: the CPU's convolutions round
    otherwise on them, and a vector would differ from upstream's in its last bits.
    """
    state = {}
    for name, empty in network.state_dict().items():
        weight = tensors.shaped(name, *empty.shape).to(device=device, dtype=empty.dtype)
        state[name] = weight.clone() if align and weight.data_ptr() % ALIGNMENT else weight
    network.load_state_dict(state, assign=True)
    # The move is for the recurrent layers, which lay out their weights anew on an accelerator.
    return network.requires_grad_(False).eval().to(device)
