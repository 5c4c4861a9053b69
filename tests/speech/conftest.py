"""Fixtures: one server with the embedded voice, and one listener, for all the tests of how it sounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from recogniser import Recogniser
from running_server import Server, running
from sentences import STORY
from voice_client import Pcm, over_http


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice; nothing here changes its server."""
    with running(tmp_path_factory.mktemp("lite")) as server:
        yield server


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture(scope="session")
def story(lite: Server) -> Pcm:
    """The story over HTTP at the voice's own rate: what every other way of asking must give too."""
    return over_http(lite, STORY)
