"""Fixtures: servers whose audio is decoded; nothing here changes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_server import Server, finish


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine at full speed."""
    yield from _running(tmp_path_factory, "--engine", "fake", "--fake-rtf", "0")


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine, which speaks as fast as people do."""
    yield from _running(tmp_path_factory, "--engine", "fake", "--fake-rtf", "1")


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice."""
    yield from _running(tmp_path_factory)


def _running(tmp_path_factory: pytest.TempPathFactory, *args: str) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), args, {})
    try:
        server.wait_ready()
        yield server
    finally:
        finish(server)
