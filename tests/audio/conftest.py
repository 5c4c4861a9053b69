"""Fixtures: servers whose audio is decoded; nothing here changes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_server import Server, running


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine at full speed."""
    with running(tmp_path_factory.mktemp("server"), "--engine", "fake", "--fake-rtf", "0") as server:
        yield server


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine, which speaks as fast as people do."""
    with running(tmp_path_factory.mktemp("server"), "--engine", "fake", "--fake-rtf", "1") as server:
        yield server


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server
