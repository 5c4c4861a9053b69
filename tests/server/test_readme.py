"""What the README says of other servers: routes, settings and tests that it names are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from running_server import COMMAND, HTTP, Server, clean_environment

ROOT = Path(__file__).parents[2]
SERVERS = 6
Row = tuple[str, str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """What it is called there, what it is here, and the tests: of every table of other servers."""
    readme = (ROOT / "README.md").read_text("utf-8")
    tables = readme.split("| there | here | test |\n|---|---|---|\n")[1:]
    assert len(tables) == SERVERS
    lines = [line for table in tables for line in table.split("\n\n")[0].splitlines()]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    assert all(len(row) == 3 for row in found)
    return [(there, here, tests) for there, here, tests in found]


def spans(cell: str) -> list[str]:
    """What is set as code."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_row_names_tests_that_are_there(rows: list[Row]) -> None:
    for there, _, tests in rows:
        named = spans(tests)
        assert named, there
        for path, name in (test.split("::") for test in named):
            source = (ROOT / "tests" / path).read_text("utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{there}: {path}::{name}"


def test_every_route_is_mounted(rows: list[Row], fake: Server) -> None:
    paths = HTTP.get(fake.url + "/openapi.json").raise_for_status().json()["paths"]
    here = [span.split(" ") for _, here, _ in rows for span in spans(here) if re.match(r"[A-Z]+ /", span)]
    assert len(here) > 20
    for method, path in here:
        described = paths[re.sub(r"\{\w+\}", "{id}", path)]
        assert method.lower() in described, f"{method} {path}"


def test_every_setting_is_known(rows: list[Row]) -> None:
    shown = subprocess.run(
        [str(COMMAND), "--help"], env=clean_environment({}), capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"\[env: (\w+)", shown))
    settings = [
        span.split("=")[0] for _, here, _ in rows for span in spans(here) if re.match(r"[A-Z_]{4,}(=\w+)?$", span)
    ]
    assert len(settings) > 40
    assert set(settings) <= known
    there = {span for there, _, _ in rows for span in spans(there) if re.fullmatch(r"[A-Z_]{4,}", span)}
    # Something else takes the place of the first; the others are those of a workflow.
    assert there - known == {"THREAD_POOL_SIZE", "DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"}
