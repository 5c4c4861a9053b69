"""What the shapes of a checkpoint's tensors leave unsaid."""

from __future__ import annotations

__all__ = ["head_count"]

HEAD_CHANNELS = 64
"""Channels of an attention head in every published Chatterbox model."""
SMALL_HEAD_CHANNELS = 16
"""The same in a model too narrow to be a published one."""
SMALL_WIDTH = 256


def head_count(width: int) -> int:
    """Attention heads of a layer with ``width`` channels, which the weights' shapes do not show."""
    channels = SMALL_HEAD_CHANNELS if width < SMALL_WIDTH else HEAD_CHANNELS
    if width <= 0 or width % channels:
        raise ValueError(f"{width} channels cannot be split into attention heads of {channels}.")
    return width // channels
