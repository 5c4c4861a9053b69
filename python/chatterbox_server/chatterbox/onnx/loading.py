"""Makes a lane of a model's graphs."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from onnxruntime import InferenceSession

from ..._core import LoadSettings, Model
from ...model_runner import Progress
from ..backends import Choice
from ..lane import BUILTIN_VOICE, Parts
from ..profiles import PROFILES
from ..reading import read_ahead
from ..render_batch import RenderBatch
from ..speech_tokens import SAMPLE_RATE
from ..t3.config import START_SPEECH
from ..t3.decoder import Decoder
from ..text.encoders import SubwordEncoder
from ..variants import Variant
from ..voices import VoiceCache
from ..watermark.watermarker import Watermarker
from .files import locate
from .lane import GraphLane, OnnxText
from .rendering import OnnxS3Gen
from .sessions import Providers, open_session
from .t3 import OnnxBackbone, OnnxT3
from .voices import OnnxVoicePreparer, load_voice

__all__ = ["graph_lane"]


def graph_lane(
    chosen: Variant,
    settings: LoadSettings,
    choice: Choice,
    *,
    progress: Progress,
    device: str,
    watermarker: Watermarker | None,
    share: int,
) -> GraphLane:
    """The lane of ``chosen``, whose voices may take ``share`` bytes. Raises ``SettingError`` or ``CheckpointError``."""
    files = locate(chosen.name, dtype=choice.dtype, model_path=settings.model_path, progress=progress)
    text = SubwordEncoder(files.tokenizer)
    # What voices are prepared with: other weights make other voices.
    fingerprint = hashlib.sha256()
    encoder = files.graphs["speech_encoder"]
    for path in (encoder, _data(encoder)):
        if path.is_file():
            read_ahead(path, progress, fingerprint.update)
    providers = Providers(device, settings.threads)
    sessions: dict[str, InferenceSession] = {}
    for name in ("embed_tokens", "language_model", "conditional_decoder"):
        progress(f"loading {files.graphs[name].name}", len(sessions), 3)
        sessions[name] = open_session(files.graphs[name], providers)
    backbone = OnnxBackbone(sessions["language_model"], device=device)
    starts = text.encode("a", None)[-1] == START_SPEECH
    t3 = OnnxT3(sessions["embed_tokens"], backbone, starts=starts)
    preparer = OnnxVoicePreparer(encoder, providers)
    # A damaged file must show now, not at the first voice; the graph itself is loaded again for it.
    for _ in preparer.load():
        progress(f"checking {chosen.name}'s voice preparation", 0, 1)
    preparer.release()
    builtin = load_voice(files.voice) if files.voice else None
    model = Model(
        name=chosen.name,
        sample_rate=SAMPLE_RATE,
        can_clone=True,
        can_convert=False,
        languages=chosen.languages,
        voices=(BUILTIN_VOICE,) if builtin else (),
        tags=text.tags,
        watermark=watermarker is not None,
    )
    s3gen = OnnxS3Gen(sessions["conditional_decoder"])
    profile = PROFILES[settings.profile]
    parts = Parts(
        model=model,
        variant=chosen,
        text=OnnxText(text),
        # A voice is a megabyte, but what T3 has computed of it is fifty times as much.
        decoder=Decoder(t3, slots=settings.slots, prefix_bytes=share - share // 8),
        s3gen=s3gen,
        preparer=preparer,
        voices=VoiceCache(
            limit_bytes=share // 8,
            folder=settings.voices_dir,
            model=f"{chosen.name}-onnx-{fingerprint.hexdigest()[:16]}",
        ),
        builtin=builtin,
        watermarker=watermarker,
        # A step ends after each run: a graph cannot be paused within it.
        rendering=RenderBatch(s3gen, size=1, pauses=False, clock=time.perf_counter),
        profile=profile,
        schedule=profile.cpu_schedule if device == "cpu" else profile.schedule,
        clock=time.perf_counter,
        waiting_slices=settings.waiting_slices,
    )
    return GraphLane(parts)


def _data(graph: Path) -> Path:
    """Where the weights of a graph are, if they are in a file of their own."""
    return graph.with_name(f"{graph.name}_data")
