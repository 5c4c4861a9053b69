"""However a text comes and its audio goes, the samples are the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from running_server import Server
from sentences import STORY
from voice_client import Pcm, over_command_line, over_http, over_websocket, piece_by_piece


def test_streamed_and_whole(lite: Server, story: Pcm) -> None:
    np.testing.assert_array_equal(over_http(lite, STORY, stream=False), story)


@pytest.mark.parametrize("chunk_ms", [40, 5000])
def test_websocket_chunks(lite: Server, story: Pcm, chunk_ms: int) -> None:
    pcm, sizes = over_websocket(lite, STORY, chunk_ms)
    np.testing.assert_array_equal(pcm, story)
    assert set(sizes[:-1]) == {24 * chunk_ms}
    assert 0 < sizes[-1] <= 24 * chunk_ms


def test_text_in_pieces(lite: Server, story: Pcm) -> None:
    pcm, _ = piece_by_piece(lite, STORY, 3)
    np.testing.assert_array_equal(pcm, story)


def test_command_line(story: Pcm, tmp_path: Path) -> None:
    pcm, rate = soundfile.read(over_command_line(STORY, tmp_path), dtype="int16")
    assert rate == 24_000
    np.testing.assert_array_equal(pcm, story)


def test_side_by_side(lite: Server, story: Pcm) -> None:
    """Other requests change nothing: each has noise of its own."""
    with ThreadPoolExecutor(2) as pool:
        several = list(pool.map(lambda _: over_http(lite, STORY), range(2)))
    for pcm in several:
        np.testing.assert_array_equal(pcm, story)
