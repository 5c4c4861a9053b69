"""Fixtures: servers as processes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from running_server import Server, StartServer, finish, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers: ``server(*args, env={}, wait=True, folder=None, prefix=())``.

    ``wait`` is for readiness. Each has a folder of its own, unless a test names one, to start again in it. What still
    runs at the end is stopped and must end with status 0.
    """
    started: list[Server] = []

    def start(
        *args: str,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        folder: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> Server:
        home = folder or tmp_path / f"server-{len(started)}"
        home.mkdir(exist_ok=True)
        started.append(Server(home, args, env or {}, prefix))
        if wait:
            started[-1].wait_ready()
        return started[-1]

    yield start
    failures: list[AssertionError] = []
    for one in started:
        try:
            finish(one)
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine at full speed, for tests that change nothing that others see."""
    with running(tmp_path_factory.mktemp("fake"), "--engine", "fake", "--fake-rtf", "0") as one:
        yield one


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice, for tests that change nothing that others see."""
    with running(tmp_path_factory.mktemp("lite")) as one:
        yield one
