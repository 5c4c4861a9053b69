"""The kind of a checkpoint's T3, from the names and shapes of its tensors, and its limits on a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..conditionals import Conditionals
from ..tensors import CheckpointError, Tensors, head_count

__all__ = ["SPEECH_IDS", "START_SPEECH", "STOP_SPEECH", "Prompt", "T3Config", "check"]


START_SPEECH = 6561
"""Speech token that a sequence begins with. Upstream lets it be sampled too; S3Gen knows only the ids below it."""
STOP_SPEECH = 6562
"""Speech token that ends a sequence."""
SPEECH_IDS = STOP_SPEECH + 1
"""Ids that may be sampled. The Llama models' tables go on above it, with rows that no training ever meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class T3Config:
    """A T3's architecture."""

    backbone: Literal["llama", "gpt2"]
    """Llama: rotary and learned positions, guidance, perceiver. GPT-2: turbo and nano."""
    layers: int
    width: int
    heads: int
    text_ids: int
    """Rows of the text table; ids are below it."""
    text_positions: int | None
    """Most text ids of a prompt; ``None``: only ``positions`` counts."""
    speech_positions: int | None
    """Most speech tokens of an utterance; ``None``: only ``positions`` counts."""
    positions: int | None
    """Most positions of prefix, text and speech together; ``None``: no limit of its own."""
    resampled: int | None
    """Prefix positions that the perceiver makes of a voice's prompt tokens; ``None``: they stand in it as they are."""
    emotion: bool
    """Whether the prompt carries a position for exaggeration."""

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance applies."""
        return self.backbone == "llama"

    def prefix_length(self, prompt_tokens: int) -> int:
        """Positions that depend on the voice alone: the speaker's and its prompt's."""
        return 1 + (prompt_tokens if self.resampled is None else self.resampled)

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> T3Config:
        """Raises ``CheckpointError`` for a file that holds no T3."""
        speech_ids, width = tensors.shaped("speech_emb.weight", -1, -1).shape
        if speech_ids < SPEECH_IDS:
            raise CheckpointError(
                f"{tensors.path}: 'speech_emb.weight' has {speech_ids} rows, at least {SPEECH_IDS} wanted."
            )
        try:
            heads = head_count(width)
        except ValueError as error:
            raise CheckpointError(f"{tensors.path}: 'speech_emb.weight': {error}") from None
        gpt2 = "tfmr.wpe.weight" in tensors
        numbers = {name.split(".")[2] for name in tensors if name.startswith("tfmr.h." if gpt2 else "tfmr.layers.")}
        if not numbers:
            raise CheckpointError(
                f"{tensors.path}: there are no transformer layers in it; is it the file of another model?"
            )
        query = "cond_enc.perceiver.pre_attention_query"
        learned = "speech_pos_emb.emb.weight" in tensors
        return cls(
            backbone="gpt2" if gpt2 else "llama",
            layers=len(numbers),
            width=width,
            heads=heads,
            text_ids=tensors.shaped("text_emb.weight", -1, width).shape[0],
            text_positions=tensors.shaped("text_pos_emb.emb.weight", -1, width).shape[0] if learned else None,
            speech_positions=tensors.shaped("speech_pos_emb.emb.weight", -1, width).shape[0] if learned else None,
            positions=tensors.shaped("tfmr.wpe.weight", -1, width).shape[0] if gpt2 else None,
            resampled=tensors.shaped(query, 1, -1, width).shape[1] if query in tensors else None,
            emotion="cond_enc.emotion_adv_fc.weight" in tensors,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The text to speak, and how."""

    text_ids: tuple[int, ...]
    """As the model's tokeniser gives them, with the start and stop ids that the Llama models want."""
    voice: Conditionals
    voice_key: str
    """Names the voice: prompts of one key have the same one."""
    exaggeration: float
    """Emotion intensity, 0.5 = neutral; the GPT-2 models have no use for it."""


def check(config: T3Config, prompt: Prompt, max_tokens: int) -> None:
    """Raises ``ValueError``, whose message says what is wrong with a request of at most ``max_tokens`` tokens."""
    ids, voice = prompt.text_ids, prompt.voice
    if not ids:
        raise ValueError("the text has no tokens")
    if min(ids) < 0 or max(ids) >= config.text_ids:
        raise ValueError(f"the text has token ids outside of 0 to {config.text_ids - 1}")
    if max_tokens < 1:
        raise ValueError("at least one speech token must be allowed")
    if config.text_positions is not None and len(ids) > config.text_positions:
        raise ValueError(f"the text has {len(ids)} tokens where {config.text_positions} are the most")
    if config.speech_positions is not None and max_tokens > config.speech_positions:
        raise ValueError(f"{max_tokens} speech tokens are asked for where {config.speech_positions} are the most")
    count = len(voice.t3_tokens)
    if config.positions is not None:
        # The last token is never fed back, so the start of speech takes its place in the sum.
        room = config.positions - config.prefix_length(count) - max_tokens
        if len(ids) > room:
            raise ValueError(f"the text has {len(ids)} tokens where there is room for {max(room, 0)}")
    if config.resampled is not None and not 0 < count <= (config.speech_positions or count):
        raise ValueError(f"the voice has {count} prompt tokens, 1 to {config.speech_positions} are wanted")
