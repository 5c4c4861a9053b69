"""What a request may ask of a model."""

from __future__ import annotations

from .config import T3Config
from .model import Prompt

__all__ = ["check"]


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
