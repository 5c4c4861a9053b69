"""What the tests of the packaging share."""

import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the repository."""
    return Path(__file__).resolve().parents[2]


def installed_tool(name: str) -> str:
    """Return the path of a command that is installed beside the interpreter."""
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    assert path, f"{name} is not installed beside {sys.executable}: run the tests through `make test`"
    return path


@pytest.fixture(scope="session")
def hadolint() -> str:
    """Return the path of the Dockerfile linter."""
    return installed_tool("hadolint")


@pytest.fixture(scope="session")
def check_jsonschema() -> str:
    """Return the path of the schema validator, which ships the Compose specification's schema."""
    return installed_tool("check-jsonschema")
