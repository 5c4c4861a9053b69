"""Fixtures: servers as processes of their own, for clients that are installed without them."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from client_helpers import KEY, Connect
from running_server import LOOPBACK, Server, StartServer, finish, running


def pytest_configure(config: pytest.Config) -> None:
    """What these packages warn of, of themselves and each other, is no failure here."""
    config.addinivalue_line("filterwarnings", "ignore")


@pytest.fixture(scope="session", autouse=True)
def straight() -> Iterator[None]:
    """The clients read the environment, whose proxy is none for servers of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, LOOPBACK)
        yield


@pytest.fixture
def connect() -> Iterator[Connect]:
    """OpenAI's clients of servers: ``connect(server, api_key=KEY, max_retries=0)``."""
    made: list[openai.OpenAI] = []

    def one(server: Server, api_key: str = KEY, max_retries: int = 0) -> openai.OpenAI:
        made.append(openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=max_retries))
        return made[-1]

    yield one
    for client in made:
        client.close()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers: ``server(*args, wait=True)``; ``wait`` is for readiness."""
    started: list[Server] = []

    def start(*args: str, wait: bool = True) -> Server:
        started.append(Server(tmp_path_factory.mktemp("server"), args, {}))
        if wait:
            started[-1].wait_ready()
        return started[-1]

    yield start
    for one in started:
        finish(one)


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine at full speed, with a key, for tests that change nothing that others see."""
    with running(
        tmp_path_factory.mktemp("server"), "--engine", "fake", "--fake-rtf", "0", "--api-key", "secret"
    ) as one:
        yield one


@pytest.fixture(scope="session")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine as fast as speech is heard."""
    with running(
        tmp_path_factory.mktemp("server"), "--engine", "fake", "--fake-rtf", "1", "--fake-chunk-ms", "100"
    ) as one:
        yield one


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice."""
    with running(tmp_path_factory.mktemp("server")) as one:
        yield one
