"""ONNX Runtime sessions of the graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..tensors import CheckpointError

__all__ = ["Providers", "dtype_of", "open_session"]

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
