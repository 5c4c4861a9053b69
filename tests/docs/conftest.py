"""Fixtures: the servers that the pages' commands are run against, and the files that they name."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from chatterbox_server.bench import random_weights
from running_server import COMMAND, Server, clean_environment, running
from tiny_engines import voiced


def shown(option: str) -> str:
    """What the command prints for an option."""
    command = [str(COMMAND), option]
    return subprocess.run(command, env=clean_environment({}), capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def help_text() -> str:
    return shown("--help")


@pytest.fixture(scope="session")
def settings() -> set[str]:
    """Every environment variable that the server reads."""
    return set(re.findall(r"\[env: (\w+)", shown("--help-all")))


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake engine, for what a page names and does not run."""
    with running(tmp_path_factory.mktemp("fake"), "--engine", "fake", "--fake-rtf", "0") as one:
        yield one


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded voice: what `make run` starts."""
    with running(tmp_path_factory.mktemp("lite")) as one:
        yield one


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of turbo, with random weights."""
    return random_weights.write("turbo", tmp_path_factory.mktemp("checkpoint") / "turbo").parent


@pytest.fixture(scope="session")
def cloning(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that clones voices, with the voice that the pages name: what `make run ARGS="--load-turbo"` starts."""
    folder = tmp_path_factory.mktemp("cloning")
    (folder / "voices").mkdir()
    soundfile.write(folder / "voices" / "my_voice.wav", voiced(3.0), 24_000)
    env = {"LOAD_TURBO": "true", "LOAD_LITE": "false", "MODEL_PATH": str(checkpoint), "ENGINE_THREADS": "2"}
    with running(folder, env=env) as one:
        yield one
