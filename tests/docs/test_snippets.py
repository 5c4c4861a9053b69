"""The commands and programs of the pages, run as they are printed, against a server that runs for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from documents import ADDRESS, Block, blocks
from running_server import Server, clean_environment
from tiny_engines import voiced

BLOCKS = [block for block in blocks() if block.language in ("bash", "python") and block.mark in ("", "server: cloning")]
AUDIO = {".wav", ".mp3", ".opus", ".flac", ".webm", ".pcm", ".mp4"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A reader's folder: the environment of `make install`, recordings, a text, and the voice of an older server."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "voices").mkdir()
    (folder / "clips").mkdir()
    for number, name in enumerate(("me.wav", "talk.wav", "my_voice.wav", "clips/1.wav", "clips/2.wav")):
        soundfile.write(folder / name, voiced(2.0, pitch=120.0 + 10 * number), 24_000)
    shutil.copy(folder / "my_voice.wav", folder / "voices")
    (folder / "book.txt").write_text("It was a bright cold day in April. The clocks were striking thirteen.\n")
    shutil.copy(checkpoint / "turbo" / "conds.pt", folder / "anna.pth")
    # No test has a sound card.
    player = folder / "bin" / "aplay"
    player.parent.mkdir()
    player.write_text("#!/bin/sh\nexec cat > /dev/null\n")
    player.chmod(0o755)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_snippet_runs(
    block: Block, folder: Path, lite: Server, checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    env = {
        "VOICES_DIR": str(folder / "voices"),
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    server = lite
    if block.mark:
        server = request.getfixturevalue("cloning")
        env |= {"LOAD_TURBO": "true", "LOAD_LITE": "false", "MODEL_PATH": str(checkpoint)}
    code = block.code.replace(ADDRESS, server.url).replace(
        ADDRESS.replace("http", "ws"), server.url.replace("http", "ws")
    )
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*program, code],
        cwd=folder,
        env={**clean_environment({}), **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    for name in re.findall(r"(?:-o|--output)[ =](\S+\.\w+)", block.code):
        assert Path(name).suffix in AUDIO
        assert (folder / name).stat().st_size > 1000, name
