"""What the tests of voice preparation share."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")

# Where each kind of checkpoint keeps its S3Gen and its speaker encoder.
FILES = {
    "standard": ("s3gen.safetensors", "ve.safetensors"),
    "multilingual": ("s3gen.pt", "ve.pt"),
    "turbo": ("s3gen_meanflow.safetensors", "ve.safetensors"),
}


def finish(stages: Generator[None, None, Result]) -> Result:
    while True:
        try:
            next(stages)
        except StopIteration as end:
            result: Result = end.value
            return result
