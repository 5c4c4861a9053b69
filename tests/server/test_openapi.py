"""``/openapi.json`` says what the server does: each route, each field, each answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import HTTP, LOOPBACK, Server, running

ROOT = Path(__file__).resolve().parents[2]
ROUTES = ROOT / "rust-tts" / "http" / "src"
KEY = "secret"
METHODS = ("get", "post", "patch", "delete")
SPEECH = ("/api/tts", "/tts/generate", "/tts", "/tts/json", "/v1/audio/speech")
"""The routes that take a text in JSON."""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants a key."""
    with running(tmp_path_factory.mktemp("locked"), "--engine", "fake", "--fake-rtf", "0", env={"API_KEY": KEY}) as one:
        yield one


@pytest.fixture(scope="module")
def document(locked: Server) -> dict[str, Any]:
    """The description."""
    found: dict[str, Any] = HTTP.get(f"{locked.url}/openapi.json").raise_for_status().json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(inner)


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema refers to, or itself."""
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return resolve(document, found)


def json_body(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The JSON that a route takes."""
    body: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return body


def send(server: Server, path: str, **fields: Any) -> Any:
    """Posts JSON with the key; the status and, of an error, what was said of it."""
    answer = HTTP.post(server.url + path, json=fields, headers={"X-API-Key": KEY})
    return answer.status_code, "" if answer.status_code == 200 else json.dumps(answer.json())


def test_every_route_is_described_and_nothing_else(document: dict[str, Any], locked: Server) -> None:
    source = "".join(path.read_text("utf-8") for path in sorted(ROUTES.rglob("*.rs")))
    described = re.findall(r"#\[utoipa::path\(\s*(\w+),\s*path = \"([^\"]+)\"", source)
    assert ".route(" not in source, "a route that is not described where it is handled"
    assert len(described) == source.count("#[utoipa::path(") == sum(1 for _ in operations(document))
    for path, item in document["paths"].items():
        # A method that no route has is answered with those that it has.
        there = locked.url + path.replace("{id}", "x").replace("{name}", "x")
        refused = HTTP.request("TRACE", there, headers={"X-API-Key": KEY})
        assert refused.status_code == 405, path
        allowed = set(refused.headers["allow"].lower().split(","))
        assert allowed - {"head"} == set(item) & set(METHODS), path
        assert ("head" in allowed) == ("get" in allowed), path


def test_references_resolve_and_all_schemas_are_used(document: dict[str, Any]) -> None:
    named = {value["$ref"] for value in inside(document) if isinstance(value.get("$ref"), str)}
    for reference in named:
        resolve(document, {"$ref": reference})
    parts = ("schemas", "responses")
    assert len({operation["operationId"] for _, _, operation in operations(document)}) > 40
    there = {f"#/components/{part}/{name}" for part in parts for name in document["components"][part]}
    assert named == there
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_key_requirement_matches_description(document: dict[str, Any], locked: Server) -> None:
    for path, method, operation in operations(document):
        answer = HTTP.request(method, locked.url + path.replace("{id}", "x").replace("{name}", "icon.svg"))
        wants_key = operation.get("security", document["security"]) not in ([], [{}])
        assert (answer.status_code == 401) == wants_key, (path, method)


def test_every_way_to_send_key_is_described(document: dict[str, Any], locked: Server) -> None:
    schemes = document["components"]["securitySchemes"]
    assert [name for one in document["security"] for name in one] == list(schemes)
    for scheme in schemes.values():
        carriers: dict[str, dict[str, str]] = {"headers": {}, "params": {}}
        if scheme["type"] == "http":
            carriers["headers"]["Authorization"] = f"Bearer {KEY}"
        else:
            carriers["headers" if scheme["in"] == "header" else "params"][scheme["name"]] = KEY
        assert HTTP.get(f"{locked.url}/voices", **carriers).status_code == 200, scheme  # type: ignore[arg-type]


@pytest.mark.parametrize("path", SPEECH)
def test_every_described_field_is_read(document: dict[str, Any], locked: Server, path: str) -> None:
    text = "input" if path.startswith("/v1/") else "text"

    def check(schema: dict[str, Any], within: str) -> None:
        for name, described in resolve(document, schema)["properties"].items():
            inner = next((one for one in described.get("anyOf", ()) if one.get("properties")), None)
            if inner and name in ("voice", "audio"):
                check(inner, f"{name}.")
            # Accepted, and of no effect: whatever it is.
            if name == "instructions":
                continue
            wrong: Any = [[]]
            fields = {text: "Hello.", **({within[:-1]: {name: wrong}} if within else {name: wrong})}
            status, said = send(locked, path, **fields)
            assert status == 422, (within + name, status, said)
            assert name in said, said

    check(json_body(document, path)["schema"], "")


@pytest.mark.parametrize("path", SPEECH)
def test_examples_are_accepted(document: dict[str, Any], locked: Server, path: str) -> None:
    body = json_body(document, path)
    examples = [one["value"] for one in body.get("examples", {}).values()] or [body["example"]]
    for example in examples:
        status, said = send(locked, path, **example)
        assert status == 200, said


@pytest.mark.timeout(300)
def test_answers_match_description(document: dict[str, Any], locked: Server, tmp_path: Path) -> None:
    """Schemathesis sends what the document allows and what it does not, and compares what it gets with what it says."""
    command = [
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")),
        ),
        *("run", f"{locked.url}/openapi.json", "--workers", "2", "--no-color"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_KEY": KEY, "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    # It has tried all there is, but for the document itself.
    count = sum(1 for _ in operations(document)) - 1
    assert f"Tested: {count}" in done.stdout, done.stdout
