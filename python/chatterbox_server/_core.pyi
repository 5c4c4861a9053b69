"""The compiled host, and networks that it computes on the CPU."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import dataclass_transform

from .chatterbox.t3.sampling import Sampling

_T = TypeVar("_T")

__version__: str

def main(argv: list[str]) -> int:
    """Parse ``argv`` (the program's name first) and serve until stopped; returns the exit status."""

def log(level: int, target: str, message: str) -> None:
    """Write a record to the host's log; ``level`` is one of ``logging``'s."""

# Messages: rust-tts/engine/src/messages.rs says what they and their fields mean. They are made with keywords alone and
# do not change. PCM is little-endian 32-bit floats, mono; each access of ``pcm`` copies it.

@dataclass_transform(kw_only_default=True, frozen_default=True)
def _message(message: type[_T]) -> type[_T]: ...

@final
@_message
class Params:
    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    exaggeration: float | None = None
    cfg_weight: float | None = None
    speed: float = 1.0

@final
@_message
class Slicing:
    tokens_per_slice: int | None = None
    context_window: int | None = None
    overlap: str | None = None
    crossfade_ms: float | None = None

@final
@_message
class Speak:
    id: int
    model: str
    text: str
    language: str | None = None
    voice: str | None = None
    seed: int
    params: Params = ...
    slicing: Slicing = ...
    max_audio_seconds: float
    stream: bool = True
    return_tokens: bool = False
    in_hand_seconds: float = 0.0

@final
@_message
class Convert:
    id: int
    model: str
    voice: str | None = None
    pcm: bytes
    sample_rate: int
    seed: int
    stream: bool = True
    max_audio_seconds: float

@final
@_message
class Cancel:
    id: int

@final
@_message
class Enroll:
    id: int
    voice: str
    model: str
    pcm: bytes
    sample_rate: int
    portable: bytes | None = None

@final
@_message
class Forget:
    voice: str

@final
@_message
class Stats:
    audio_seconds: float
    compute_seconds: float
    tokens: Sequence[int] | None = None

@final
@_message
class Audio:
    id: int
    pcm: bytes

@final
@_message
class Done:
    id: int
    stats: Stats

FailureCode = Literal[
    "INVALID_PARAMETER",
    "NOTHING_TO_SAY",
    "CANNOT_CLONE",
    "VOICE_NOT_ENROLLED",
    "UNSUPPORTED_AUDIO",
    "OUT_OF_MEMORY",
    "GENERATION_ERROR",
]

@final
@_message
class Failed:
    id: int
    code: FailureCode
    field: str | None = None
    message: str

@final
@_message
class Enrolled:
    id: int
    voice: str
    model: str
    cache_bytes: int

@final
@_message
class Model:
    name: str
    sample_rate: int
    can_clone: bool
    can_convert: bool
    languages: Sequence[str]
    voices: Sequence[str]
    tags: Sequence[str]
    watermark: bool

EngineKind = Literal["auto", "fake"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Backend = Literal["auto", "native", "torch", "onnx"]
Dtype = Literal["auto", "fp32", "bf16", "fp16", "int8", "int4", "q8", "q4", "q4f16"]
Profile = Literal["latency", "balanced", "throughput"]
MultilingualVersion = Literal["v2", "v3"]
S3GenDtype = Literal["fp32", "bf16", "int8"]
S3GenDecoder = Literal["auto", "meanflow"]

@final
@_message
class S3GenSettings:
    dtype: S3GenDtype = "fp32"
    decoder: S3GenDecoder = "auto"
    steps: int | None = None
    prompt_seconds: float | None = None

@final
@_message
class LoadSettings:
    """What an engine loads, and how: rust-tts/engine/src/options.rs says it of each field."""

    engine: EngineKind = "auto"
    models: Sequence[str] = ()
    device: Device = "auto"
    multilingual_version: MultilingualVersion = "v2"
    model_path: Path | None = None
    backend: Backend = "auto"
    model_dtype: Dtype = "auto"
    s3gen: S3GenSettings = ...
    profile: Profile = "balanced"
    watermark: bool = True
    slots: int = 8
    voice_cache_bytes: int = ...
    voices_dir: Path | None = None
    hf_home: str | None = None
    threads: int | None = None
    waiting_slices: int | None = None
    fake_rtf: float = 0.0
    fake_chunk_ms: int = 200
    fake_load_seconds: float = 0.0

def available_threads() -> int:
    """As many threads as may run at once: of the machine's, those that this process was given, by affinity or by a
    container's quota."""

def set_threads(count: int) -> None:
    """Compute with ``count`` threads in networks that are made from now on; those there are keep theirs."""

def biquad(
    samples: NDArray[np.float32], out: NDArray[np.float32], numerator: list[float], denominator: list[float]
) -> None:
    """Writes to ``out`` ``[n]`` what the filter with these coefficients, three each, makes of ``samples`` ``[n]``, in
    float64 inside; the denominator's first is 1. Raises ``ValueError`` for arrays that do not fit or overlap."""

class T3Backbone:
    """The transformer and the head of a T3, from packed weights.

    Raises ``ValueError`` for arrays that do not fit, overlap or are not C-contiguous. ``precision`` is "fp32", "bf16",
    "int8" or "int4". Each layer's arrays are packed before the next ones are asked for.
    """

    @staticmethod
    def llama(
        heads: int,
        precision: str,
        frequencies: NDArray[np.float32],
        layers: Iterable[tuple[NDArray[np.float32], ...]],
        norm: NDArray[np.float32],
        head: NDArray[np.float32],
    ) -> T3Backbone:
        """Of each layer: attention norm, query, key, value, output, feed-forward norm, gate, up, down."""

    @staticmethod
    def gpt2(
        heads: int,
        precision: str,
        positions: NDArray[np.float32],
        layers: Iterable[tuple[NDArray[np.float32], ...]],
        norm: tuple[NDArray[np.float32], NDArray[np.float32]],
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> T3Backbone:
        """Of each layer: attention norm, projections, output, feed-forward norm, up, down, each followed by its bias.

        Their matrices are ``[inputs, outputs]``; the head is ``[outputs, inputs]``.
        """

    def cache(self) -> T3Cache:
        """An empty cache for this model."""

    def forward(
        self, embedded: NDArray[np.float32], hidden: NDArray[np.float32], cache: T3Cache, first: int, starts: list[int]
    ) -> None:
        """``embedded`` ``[rows, new, width]`` through every layer to ``hidden``, of the same shape.

        The positions of the cache's rows from ``first`` on, each from ``starts[row]`` on. What a row held from there on
        is forgotten.
        """

    def logits(self, hidden: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Of the next token, to ``logits`` ``[rows, ids]``, from the rows' last position, ``hidden`` of
        ``[rows, width]``."""

class T3Cache:
    """Keys and values of the past positions of some rows."""

    @property
    def rows(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Of keys and values. What rows share counts once for each of them."""

    def append(self) -> None:
        """Add a row at the end that holds nothing yet."""

    def paste(self, row: int, other: T3Cache) -> None:
        """Make ``row`` begin as the first row of ``other`` is. The space is shared until they differ."""

    def remove(self, row: int) -> None:
        """Drop ``row``; the last one takes its number."""

class T3Sampler:
    """What is known of the requests in some slots: their settings, and which tokens they have had."""

    def __init__(self, slots: int, ids: int, start: int, penalty_last: bool, least_temperature: float) -> None:
        """For tokens below ``ids``, of which speech begins with ``start``.

        ``penalty_last`` is GPT-2's order; below ``least_temperature`` the likeliest token is taken. Raises
        ``ValueError`` for what does not fit together, here and below.
        """

    def join(self, slot: int, sampling: Sampling, stream: int) -> None:
        """Put a request without tokens into ``slot``, whatever was there. Its random numbers are those of
        ``stream``."""

    def sample(self, logits: NDArray[np.float32], batch: list[tuple[int, int, int, int]]) -> list[int]:
        """The next token of each request in ``batch``, from ``logits`` ``[…, ids]``, C-contiguous.

        A request is its slot, its conditional row and its unconditional one (the same where there is none), and how
        many tokens it has. Rows are numbered across all leading dimensions.
        """

class LinearLayer:
    """``y = x W^T + b`` with packed weights. What a row gives does not depend on the rows beside it."""

    def __init__(self, weights: NDArray[np.float32], bias: NDArray[np.float32] | None, precision: str) -> None:
        """``weights`` is ``[outputs, inputs]``, ``bias`` ``[outputs]``, C-contiguous; ``precision`` is "fp32" or
        "int8". Raises ``ValueError`` for what does not fit together."""

    def run(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Writes ``y`` ``[rows, outputs]`` for ``x`` ``[rows, inputs]``, both C-contiguous.

        Raises ``ValueError`` for arrays that do not fit or overlap.
        """

class FlowEstimator:
    """The layers of S3Gen's estimator, from packed weights."""

    def __init__(
        self,
        get_weight: Callable[..., NDArray[np.float32]],
        layers: tuple[int, list[int], int],
        head_width: int,
        precision: str,
    ) -> None:
        """``get_weight(name, *shape)`` returns a weight, C-contiguous and of that shape (-1 = any size).

        What it raises, this raises. ``layers`` counts transformer layers: of the first block, of those in the middle,
        of the last. ``precision`` is "fp32" or "int8". Raises ``ValueError`` for what does not fit together.
        """

    def run(
        self,
        x: NDArray[np.float32],
        biases: NDArray[np.float32],
        lengths: list[int],
        directions: NDArray[np.float32],
    ) -> None:
        """Writes ``directions`` ``[B, T, outputs]`` for ``x`` ``[B, T, inputs]`` and ``biases``
        ``[B, blocks, channels]``, all C-contiguous.

        A row has as many frames as ``lengths`` says, and what is beyond them stays as it is. Raises ``ValueError`` for
        arrays that do not fit or overlap.
        """

class VocoderGenerator:
    """The vocoder's network from a mel and a source signal to samples, from packed weights."""

    def __init__(
        self, get_weight: Callable[..., NDArray[np.float32]], rates: list[int], blocks: int, dilations: list[int]
    ) -> None:
        """``get_weight(name, *shape)`` returns a weight, C-contiguous and of that shape (-1 = any size).

        Its norm is multiplied out; what it raises, this raises. ``rates`` are the stages' upsampling; each stage has as
        many of the ``blocks`` residual blocks, in which the first convolutions of pairs have ``dilations``. Raises
        ``ValueError`` for what does not fit together.
        """

    def run(self, mel: NDArray[np.float32], source: NDArray[np.float32], samples: NDArray[np.float32]) -> None:
        """Writes ``samples`` ``[n]`` for ``mel`` ``[T, channels]`` and ``source`` ``[n]``, all C-contiguous.

        Raises ``ValueError`` for arrays that do not fit or overlap.
        """
