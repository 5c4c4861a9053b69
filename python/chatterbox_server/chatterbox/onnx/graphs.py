"""The graphs of a model: where their files are, and ONNX Runtime sessions of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...model_runner import Progress
from ..hub import command, fetch
from ..tensors import CheckpointError

__all__ = ["GRAPHS", "SUFFIXES", "VOICE", "GraphFiles", "Providers", "dtype_of", "locate", "open_session"]


GRAPHS = ("speech_encoder", "embed_tokens", "language_model", "conditional_decoder")
SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4", "q4f16": "_q4f16"}
"""Of the files' names, by precision."""
VOICE = "default_voice.safetensors"
"""The output of ``speech_encoder`` for the voice that comes with the weights. The published folder has none."""
_FOLDER = "onnx"
_TOKENIZER = "tokenizer.json"
_REPOSITORIES = {"turbo": "ResembleAI/chatterbox-turbo-ONNX"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFiles:
    """The files of one model."""

    graphs: dict[str, Path]
    """By the names in ``GRAPHS``."""
    tokenizer: Path
    """The folder of its files."""
    voice: Path | None
    """The voice that comes with the model."""


def locate(model: str, *, dtype: str, model_path: Path | None, progress: Progress) -> GraphFiles:
    """The files of ``model`` (turbo or nano) in the precision ``dtype``, each of them there.

    With ``model_path`` nothing is ever downloaded. It has a folder for each model, called like it or like its
    repository, or is such a folder itself, and there the graphs are in ``onnx``. Raises ``CheckpointError``.
    """
    names = {graph: f"{graph}{SUFFIXES[dtype]}.onnx" for graph in GRAPHS}
    if model_path is not None:
        return _files(_folder(model, names, model_path), names)
    if model not in _REPOSITORIES:
        raise CheckpointError(
            f"{model}: there are no published graphs of it; make them with `chatterbox-server export-onnx` and set "
            "MODEL_PATH to their folder."
        )
    return _files(_fetched(_REPOSITORIES[model], names, progress), names)


def _files(folder: Path, names: dict[str, str]) -> GraphFiles:
    voice = folder / VOICE
    return GraphFiles(
        graphs={graph: folder / _FOLDER / name for graph, name in names.items()},
        tokenizer=folder,
        voice=voice if voice.is_file() else None,
    )


def _fetched(repository: str, names: dict[str, str], progress: Progress) -> Path:
    found = fetch(repository, _wanted(names), progress)
    return found[_TOKENIZER].parent


def _wanted(names: dict[str, str]) -> list[str]:
    graphs = [f"{_FOLDER}/{name}" for name in names.values()]
    return [_TOKENIZER, *graphs, *(f"{name}_data" for name in graphs)]


def _folder(model: str, names: dict[str, str], root: Path) -> Path:
    """The folder below ``root`` that has all of the model's files."""
    repository = _REPOSITORIES.get(model)
    places = [root / model, *([root / repository.partition("/")[2]] if repository else []), root]
    looked = []
    for folder in places:
        # Whether a graph has a file of data beside it is known to the graph alone.
        wanted = [_TOKENIZER, *(f"{_FOLDER}/{name}" for name in names.values())]
        missing = [name for name in wanted if not (folder / name).is_file()]
        if not missing:
            return folder
        looked.append(f"{folder} (without {', '.join(missing)})")
    get = f" Get them with: {command(repository, _wanted(names), root / model)}; or" if repository else ""
    raise CheckpointError(
        f"{model}: MODEL_PATH has not all of its graphs. Looked in {'; '.join(looked)}.{get} make them with: "
        f"chatterbox-server export-onnx CHECKPOINT {root / model}."
    )


_DTYPES: dict[str, type[np.floating]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Providers:
    """Where graphs run: ``device`` is "cpu" or "cuda"."""

    def __init__(self, device: str, threads: int | None) -> None:
        self.device = device
        self.threads = threads

    @staticmethod
    def cuda_available() -> bool:
        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()

    @property
    def names(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"] if self.device == "cuda" else ["CPUExecutionProvider"]


def open_session(path: Path, providers: Providers) -> onnxruntime.InferenceSession:
    """Raises ``CheckpointError`` for a file that is no graph, or whose data is not there."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = providers.threads or 0
    options.inter_op_num_threads = 1
    # Sequences of every length come by: a pattern kept for each would be memory that is never given back.
    options.enable_mem_pattern = False
    # Four sessions and torch take turns on the same cores: none may keep them busy while another works.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # What the runtime finds remarkable in a graph is nothing that an operator can act on.
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers.names)
    except MemoryError:
        raise
    except Exception as error:  # the runtime's errors share no class of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: cannot be read as an ONNX graph ({reason}).") from error


def dtype_of(argument: onnxruntime.NodeArg) -> type[np.floating]:
    """The type of numbers that a graph takes or gives."""
    return _DTYPES.get(argument.type, np.float32)


def single(array: NDArray[np.floating]) -> NDArray[np.float32]:
    """``array`` in float32."""
    return array.astype(np.float32, copy=False)
