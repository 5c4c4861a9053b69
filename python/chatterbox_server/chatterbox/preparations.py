"""Clips that are being prepared, one after the other."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .._core import Failed
from ..model_runner import Event, RequestError, failure
from .memory import memory_errors
from .tensors import CheckpointError

__all__ = ["Preparation", "Preparations"]

STAGE_SECONDS = 0.2
"""How soon a clip wants its next stage after one."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Preparation:
    """A clip on its way through the voice preparation, and what is done with what comes out."""

    id: int
    deadline: float
    """When its request is late; each stage moves it beyond the present, as audio does a listener's: a long clip that is
    late must not silence everybody until it is done."""
    stages: Iterator[None]
    finish: Callable[[Any], list[Event]]


class Preparations:
    """A queue: the networks that prepare voices are in memory for one clip at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Preparation] = deque()

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def deadline(self) -> float:
        """When the first request is late: whoever stands before it must be done by then. Infinite if there is none."""
        return min((clip.deadline for clip in self._waiting), default=math.inf)

    def add(self, clip: Preparation) -> None:
        self._waiting.append(clip)

    def drop(self, request_id: int) -> None:
        """Forget a clip; an unknown one is ignored."""
        self._waiting = deque(clip for clip in self._waiting if clip.id != request_id)

    def step(self, clock: Callable[[], float]) -> list[Event]:
        """Take the first clip one stage further."""
        clip = self._waiting[0]
        try:
            with memory_errors():
                next(clip.stages)
        except StopIteration as end:
            self._waiting.popleft()
            return clip.finish(end.value)
        except CheckpointError as error:
            # They were whole when the model was loaded.
            logger.error("voices cannot be prepared any more: %s", error)
            self._waiting.popleft()
            return [Failed(id=clip.id, code="GENERATION_ERROR", message="The model's files have changed; restart it.")]
        except (RequestError, MemoryError) as error:
            self._waiting.popleft()
            return [failure(clip.id, error)]
        clip.deadline = max(clip.deadline, clock() + STAGE_SECONDS)
        return []
