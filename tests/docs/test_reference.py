"""What the pages state of the server is so: settings, metrics, error codes, statuses, fields, routes and paths."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES, ROOT, code_spans, prose
from running_server import HTTP, Server

ELSEWHERE = {
    # Read by other programs.
    "ARGS", "CONNECTIONS", "CUDA_VISIBLE_DEVICES", "DOCKERHUB_TOKEN", "DOCKERHUB_USERNAME", "PORT_HEALTH",
    "PYTEST_ARGS",    "CHATTERBOX_SERVER_URL", "OMP_WAIT_POLICY", "THREAD_POOL_SIZE",
    # Read by Compose.
    "MODELS", "PUBLISH", "VOICES",
}  # fmt: skip


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def first_cells(text: str, heading: str) -> set[str]:
    """The code spans in the first column of the table under a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = [line.strip("|").split(" | ")[0] for line in section.splitlines() if line.startswith("|")]
    return {span for row in rows for span in code_spans(row)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_exist(path: Path) -> None:
    places = r"(?:rust-tts|python|tests|bench|deploy|scripts|docs|requirements)(?:/[\w.-]+)+/?"
    for span in code_spans(prose(path)):
        if re.fullmatch(places, span):
            assert (ROOT / span).exists(), span


def test_arrows_between_crates_are_listed() -> None:
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    packages = json.loads(found.stdout)["packages"]
    folders = {package["name"]: Path(package["manifest_path"]).parent.relative_to(ROOT) for package in packages}
    crates = {name: folder for name, folder in folders.items() if folder.parts[0] == "rust-tts"}
    arrows = {
        str(crates[package["name"]]): {
            crates[used["name"]].name
            for used in package["dependencies"]
            if used["kind"] is None and used["name"] in crates
        }
        for package in packages
        if package["name"] in crates
    }
    section = page("architecture.md").partition("## Crates\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert {code_spans(row[0])[0]: set(code_spans(row[2])) for row in rows} == arrows


@pytest.mark.parametrize(("heading", "folder"), [("Python", ""), ("The Chatterbox models", "chatterbox")])
def test_modules_are_listed(heading: str, folder: str) -> None:
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "python/chatterbox_server" / folder).iterdir()
        if path.suffix in (".py", ".pyi") or (path / "__init__.py").exists()
    }
    assert first_cells(page("architecture.md"), heading) == there - {"__init__.py", "__main__.py"}


def test_settings_exist(settings: set[str]) -> None:
    known = settings | ELSEWHERE | error_codes()
    pages = [path for path in PAGES if path.name not in ("CHANGELOG.md", "dialects.md")]
    named = {
        name
        for path in pages
        for span in code_spans(prose(path))
        for name in re.findall(r"^([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)(?:=.*)?$", span)
    }
    assert len(named) > 40
    assert named - known == {"OUT_FOLDER", "CHECKPOINT_FOLDER"} & named


def error_codes() -> set[str]:
    """Every code that the server may answer with."""
    source = (ROOT / "rust-tts/speech/src/error.rs").read_text("utf-8")
    return set(re.findall(r"=> \(\d{3}, \"([A-Z_]+)\"\)", source))


def test_every_error_code_is_listed() -> None:
    codes = error_codes()
    assert len(codes) > 25
    text = page("http-api.md")
    (section,) = re.findall(r"^## Errors\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert {span for span in code_spans(section) if re.fullmatch(r"[A-Z_]{4,}", span)} >= codes
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if re.match(r"\| \d", line)]
    stated = {(code, int(row[0])) for row in rows for code in code_spans(row[1])}
    source = (ROOT / "rust-tts/speech/src/error.rs").read_text("utf-8")
    meant = {(code, int(status)) for status, code in re.findall(r"=> \((\d{3}), \"([A-Z_]+)\"\)", source)}
    assert stated <= meant
    assert {code for code, _ in meant - stated} == first_cells(page("websocket.md"), "Errors") - {"TOO_MANY_REQUESTS"}


def test_every_metric_is_listed(fake: Server) -> None:
    # Some are there once they have a value: that between two pieces of audio needs an answer of several.
    HTTP.post(f"{fake.url}/api/tts", json={"text": "x" * 50}).raise_for_status()
    fake.wait_metric("chatterbox_requests_running", 0)
    text = HTTP.get(f"{fake.url}/metrics").raise_for_status().text
    have = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    operations = page("operations.md")
    assert first_cells(operations, "Metrics") == have
    named = set(re.findall(r"chatterbox_[a-z_]+", operations.partition("## Alerts")[2]))
    assert {name.removesuffix("_bucket") for name in named} <= have


def test_exit_statuses_are_listed(help_text: str) -> None:
    stated = help_text.partition("Exit status: ")[2]
    rows = re.findall(r"^\| (\d+) \|", page("operations.md").partition("## Ending")[2], re.MULTILINE)
    assert rows == re.findall(r"\b\d+\b", stated)


def test_every_field_of_speech_request_is_listed(fake: Server) -> None:
    description: dict[str, Any] = HTTP.get(fake.url + "/openapi.json").raise_for_status().json()

    def properties(schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return properties(description["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        found = dict(schema.get("properties", {}))
        for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
            found |= properties(part)
        return found

    body = description["paths"]["/api/tts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = set()
    for name, schema in properties(body).items():
        fields |= {f"{name}.{inner}" for inner in properties(schema)} or {name}
    section = page("http-api.md").partition("## `POST /api/tts`\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    listed = set()
    for names, objects in ((code_spans(row[0]), code_spans(row[1])) for row in rows):
        listed |= {f"{prefix}{name}" for name in names for prefix in ("", *(f"{each}." for each in objects))}
    assert listed == fields


def test_every_route_is_listed(fake: Server) -> None:
    paths = HTTP.get(fake.url + "/openapi.json").raise_for_status().json()["paths"]
    text = page("http-api.md") + page("websocket.md") + page("dialects.md")
    assert [path for path in paths if re.sub(r"\{\w+\}", "{id}", path) not in text] == []
