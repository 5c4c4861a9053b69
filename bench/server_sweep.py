"""Listeners of the embedded voice: ``chatterbox-server bench server``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chatterbox_server.bench.report import server_tables
from harness import installed


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    """RTF, first audio and lateness at a few numbers of listeners."""
    del generator
    levels = ("--concurrency", "1,4") if quick else ("--concurrency", "1,2,4,8,16")
    return installed("server", *levels, "--requests", "8" if quick else "32")


def render(result: dict[str, Any]) -> str:
    return server_tables(result)
