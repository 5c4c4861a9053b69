"""Makes the four graphs, and what goes with them, of a checkpoint in upstream's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ...checkpoint import CheckpointFiles
from ...model_spec import variant
from ...t3.model import T3
from ...tensors import CheckpointError, Tensors, open_tensors
from ...voices.files import load_builtin
from ...voices.tokenizer import mel_filters
from ..graphs import VOICE
from ..voices import save_voice
from .flow import write_conditional_decoder
from .graph import PRECISIONS, Array
from .language_model import write_embed_tokens, write_language_model
from .speech_encoder import write_speech_encoder

__all__ = ["export"]

_TOKENIZER_MELS = 128


def export(
    model: str, files: CheckpointFiles, folder: Path, dtypes: Sequence[str], report: Callable[[Path], None]
) -> None:
    """Write ``folder/onnx`` and what belongs beside it, of ``model`` (turbo or nano), in each of ``dtypes``.

    ``report`` is given each file. Raises ``CheckpointError`` for weights that cannot be exported, ``OSError``
    where nothing can be written.
    """
    t3, s3gen, voice_encoder = (open_tensors(path) for path in (files.t3, files.s3gen, files.voice_encoder))
    graphs = folder / "onnx"
    graphs.mkdir(parents=True, exist_ok=True)

    def filters() -> Array:
        found: Array = mel_filters(_TOKENIZER_MELS).numpy()
        return found

    recipe = variant(model, "").recipe
    for precision in (PRECISIONS[dtype] for dtype in dtypes):
        encoder = write_speech_encoder(
            t3=t3,
            s3gen=s3gen,
            voice_encoder=voice_encoder,
            filters=filters,
            recipe=recipe,
            folder=graphs,
            precision=precision,
        )
        report(encoder)
        report(write_embed_tokens(t3, graphs, precision))
        report(write_language_model(t3, graphs, precision))
        report(write_conditional_decoder(s3gen, graphs, precision))
    _copy_tokenizer(files.tokenizer, folder)
    if files.conditionals is not None:
        report(_write_voice(t3, files.conditionals, folder))


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """Written from the checkpoint's own files, in the form of the published folder."""
    from ...text.encoders import open_tokenizer

    try:
        open_tokenizer(source).save(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{source}: its tokeniser cannot be copied ({error}).") from error


def _write_voice(tensors: Tensors, path: Path, folder: Path) -> Path:
    voice = load_builtin(path)
    t3 = T3.from_tensors(tensors, device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        features = t3.prefix(voice)
    target = folder / VOICE
    save_voice(target, features[None].clone(), voice.s3_tokens[None], voice.s3_speaker[None], voice.s3_mel[None])
    return target
