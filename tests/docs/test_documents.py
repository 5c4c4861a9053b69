"""The pages: their length, their links, the commands that they name, and that no code block is left untested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import PAGES, ROOT, Block, anchors, blocks, links, prose

BLOCKS = blocks()


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_lines_are_short(page: Path) -> None:
    text = page.read_text("utf-8").splitlines()
    # A row of a table is one line; the README has none that is long.
    lines = text if page.name == "README.md" else [line for line in text if not line.startswith("|")]
    assert [line for line in lines if len(line) > 160] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_linked() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)}
    assert [relative(page) for page in PAGES if page not in linked and page.name != "README.md"] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_is_run_or_gives_reason(block: Block) -> None:
    if block.language in ("bash", "python", "javascript"):
        assert re.fullmatch(r"|server: cloning|client: \w+|browser|not run: .{10,}", block.mark), block.mark
    else:
        # Settings, alert rules and what a program prints: nothing to run.
        assert block.language in ("", "ini", "json", "text", "yaml", "nginx"), block.language
        assert not block.mark


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert {"run", "test", "install-chatterbox"} <= named <= targets


def test_every_command_exists(help_text: str) -> None:
    commands = set(re.findall(r"^  ([a-z-]+)  ", help_text, re.MULTILINE))
    named = {command for page in PAGES for command in re.findall(r"`chatterbox-server ([a-z][a-z-]*)", prose(page))}
    assert {"say", "runpod"} <= named <= commands
