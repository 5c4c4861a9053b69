"""Files say of themselves that no person spoke them, where FFmpeg shows it."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from audio_helpers import speak
from command_helpers import run
from running_server import Server

MARK = "AI-generated speech (chatterbox-server)"
MAKER = "chatterbox-server "
FORMATS = ("mp3", "flac", "fmp4", "opus", "webm")
FAKE = ("--engine", "fake", "--fake-rtf", "0")


def tags(data: bytes) -> dict[str, str]:
    """The tags of a file and of its stream, by their names in small letters."""
    with av.open(io.BytesIO(data), "r") as container:
        found = container.streams.audio[0].metadata | container.metadata
        assert next(container.decode(audio=0)).samples > 0
    return {name.lower(): text for name, text in found.items()}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_file_comment_names_software(fake: Server, name: str, stream: bool) -> None:
    found = tags(speak(fake.url, stream=stream, audio={"format": name}).content)
    assert found["comment"] == MARK
    if name != "webm":  # whose reader keeps the application's name to itself
        assert found["encoder"].startswith(MAKER)


def test_wav_file_is_marked_and_wav_stream_is_not(fake: Server) -> None:
    found = tags(speak(fake.url, stream=False).content)
    assert found["comment"] == MARK
    assert found["encoder"].startswith(MAKER)
    stream = speak(fake.url).content
    assert len(stream) == 44 + 2 * 24_000 * 0.06 * len("Hello there.")


@pytest.mark.parametrize("name", [*FORMATS, "wav"])
def test_command_line_file_is_marked(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, "say", "Hello there.", "-o", "said", "--format", name, *FAKE)
    assert done.returncode == 0, done.stderr
    assert tags((tmp_path / "said").read_bytes())["comment"] == MARK
