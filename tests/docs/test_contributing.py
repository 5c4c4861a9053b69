"""CONTRIBUTING.md's tables of files: what has to be touched to add a thing like the example."""

from __future__ import annotations

import re
import subprocess

import pytest
from documents import ROOT, code_spans

NOT_PRODUCTION = re.compile(r"/tests?/|/tests\.rs$|/bench/|/assets/swagger-ui/")


def listed(title: str) -> tuple[set[str], set[str]]:
    """The files in the table of a recipe, and the files and folders in the list of those that stay as they are."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (section,) = re.findall(rf"^### {title}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    lines = section.splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| `")]
    items = [line.split(": ")[0] for line in lines if line.startswith("* ")]
    touched, others = ({span for cell in cells for span in code_spans(cell)} for cells in (rows, items))
    return touched, others


def naming(words: tuple[str, ...]) -> set[str]:
    """The files of production code that have one of some words, in any case."""
    patterns = [argument for word in words for argument in ("-e", word)]
    command = ["git", "grep", "-lwi", "--fixed-strings", *patterns, "--", "rust-tts", "python"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {path for path in found if not NOT_PRODUCTION.search(path)}


@pytest.mark.parametrize(
    ("title", "words", "most"),
    [
        ("A sampling parameter", ("min_p",), 6),
        ("An audio format", ("fmp4",), 3),
        ("A setting", ("max_queue",), 3),
        ("A route", ("/ping", "health::ping"), 2),
        ("A model", ("nano",), 5),
    ],
)
def test_recipe_lists_all_files(title: str, words: tuple[str, ...], most: int) -> None:
    touched, others = listed(title)
    named = naming(words)
    assert touched <= named
    assert len(touched) <= most
    beside = {other: {path for path in named if path == other or path.startswith(f"{other}/")} for other in others}
    assert all(beside.values()), beside
    assert touched | set().union(*beside.values()) == named
    assert touched.isdisjoint(set().union(*beside.values()))
