"""How an utterance begins."""

from __future__ import annotations

import math

import torch

__all__ = ["FADE_IN"]

_MUTED = 480
"""20 ms, in which what is left of the reference clip may be heard."""

FADE_IN = torch.cat([torch.zeros(_MUTED), (torch.cos(torch.linspace(math.pi, 0, _MUTED)) + 1) / 2])
"""Gains ``[960]`` of an utterance's first samples: 20 ms of silence, then 20 ms of rise. Equals ``trim_fade`` of
upstream's ``s3gen.py``."""
