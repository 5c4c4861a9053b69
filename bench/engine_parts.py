"""The engine beside upstream's package: ``chatterbox-server bench engine`` on random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chatterbox_server.bench.report import engine_tables
from harness import installed


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    """Turbo in the exact precision and the usual reduced one."""
    del generator
    options = ("--models", "turbo", "--precisions", "fp32,int8")
    return installed("engine", "--random-weights", *options, *(("--quick",) if quick else ()))


def render(result: dict[str, Any]) -> str:
    return engine_tables(result)
