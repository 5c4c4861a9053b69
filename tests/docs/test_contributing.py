"""CONTRIBUTING.md's tables of files: what has to be touched to add a thing like the example."""

from __future__ import annotations

import re
import subprocess

import pytest
from documents import ROOT, code_spans

NOT_PRODUCTION = re.compile(r"/tests?/|/tests\.rs$|/bench/|/assets/(swagger-ui/|openapi\.json$)")


def listed(title: str) -> set[str]:
    """The files in the table of a recipe."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (section,) = re.findall(rf"^### {title}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return {span for row in rows for span in code_spans(row)}


def naming(word: str) -> set[str]:
    """The files of production code that have a word, in any case."""
    command = ["git", "grep", "-lwi", "--fixed-strings", word, "--", "rust-tts", "python"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {path for path in found if not NOT_PRODUCTION.search(path)}


@pytest.mark.parametrize(
    ("title", "example"),
    [
        ("A sampling parameter", "repetition_penalty"),
        ("An audio format", "fmp4"),
        ("A setting", "max_queue"),
        ("A route, or a dialect", "/ping"),
    ],
)
def test_recipe_lists_all_files(title: str, example: str) -> None:
    assert listed(title) == naming(example)


def test_recipe_of_a_model_lists_files_that_name_it() -> None:
    files = listed("A model")
    assert len(files) >= 5
    assert files <= naming("nano")
