"""Runs the commands that end by themselves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from running_server import COMMAND, clean_environment

FIGURES = re.compile(r"([\d.]+) s of audio, RTF ([\d.]+), first audio after (\d+) ms")
"""What ``say`` and ``convert`` print."""


def run(
    folder: Path, *args: str, text: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command in a folder, with a text on standard input."""
    command, environment = [str(COMMAND), *args], clean_environment(env or {})
    return subprocess.run(
        command, env=environment, cwd=folder, input=text, capture_output=True, timeout=100, check=False
    )
