"""The tables of other servers: routes, settings and tests that they name exist."""

from __future__ import annotations

import re
import tomllib

from documents import ROOT, code_spans, dialect_tables
from running_server import HTTP, Server

TABLES = dialect_tables()
ROWS = [row for rows in TABLES.values() for row in rows]
COVERAGE: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "tests/docs/coverage.toml").read_text("utf-8"))


def test_every_server_has_table() -> None:
    assert len(TABLES) == 6
    assert min(len(rows) for rows in TABLES.values()) >= 9


def test_every_row_names_existing_tests() -> None:
    assert {server: list(rows) for server, rows in COVERAGE.items()} == {
        server: [there for there, _ in rows] for server, rows in TABLES.items()
    }
    for there, tests in (row for rows in COVERAGE.values() for row in rows.items()):
        assert tests, there
        for path, name in (test.split("::") for test in tests):
            source = (ROOT / "tests" / path).read_text("utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{there}: {path}::{name}"


def test_every_route_is_mounted(fake: Server) -> None:
    paths = HTTP.get(fake.url + "/openapi.json").raise_for_status().json()["paths"]
    here = [span.split(" ") for _, here in ROWS for span in code_spans(here) if re.match(r"[A-Z]+ /", span)]
    assert len(here) > 20
    for method, path in here:
        described = paths[re.sub(r"\{\w+\}", "{id}", path)]
        assert method.lower() in described, f"{method} {path}"


def test_every_setting_is_known(settings: set[str]) -> None:
    named = [
        span.split("=")[0] for _, here in ROWS for span in code_spans(here) if re.match(r"[A-Z_]{4,}(=\w+)?$", span)
    ]
    assert len(named) > 40
    assert set(named) <= settings
    there = {span for there, _ in ROWS for span in code_spans(there) if re.fullmatch(r"[A-Z_]{4,}", span)}
    # Something else takes the place of the first; the others are those of a workflow.
    assert there - settings == {"THREAD_POOL_SIZE", "DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"}
