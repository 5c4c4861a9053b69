from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatterbox_server.bench import random_weights, upstream_package


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny checkpoint of a kind: standard, turbo, multilingual or nano. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return functools.cache(lambda kind: random_weights.write(kind, root / kind))


@pytest.fixture(scope="session")
def upstream(checkpoints: Callable[[str], Path]) -> Callable[[str], Any]:
    """Gives upstream's own model of a kind, loaded from the tiny checkpoint. Tests must not change it."""
    return functools.cache(lambda kind: upstream_package.load(kind, checkpoints(kind)))
