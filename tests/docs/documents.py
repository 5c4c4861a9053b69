"""Reads the project's Markdown: the code blocks that tests run, links, and the tables of other servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + list(ROOT.glob("docs/**/*.md"))
)

ADDRESS = "http://127.0.0.1:8081"
"""Where the pages' programs look for the server."""

_FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
_PROSE = re.compile(r"^```\w*\n.*?^```$|<!--.*?-->", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``mark`` is the comment on the line above it, which names what it needs."""

    page: str
    line: int
    language: str
    mark: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """Every fenced block of every page, in order."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            name = str(page.relative_to(ROOT))
            found.append(Block(name, line, match["language"], match["mark"] or "", match["code"]))
    return found


def prose(page: Path) -> str:
    """A page without its code blocks and comments."""
    return _PROSE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while slug in found:
            number += 1
            slug = f"{slug.removesuffix(f'-{number - 1}')}-{number}"
        found.add(slug)
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links that lead into the repository."""
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]


def dialect_tables() -> dict[str, list[tuple[str, str]]]:
    """What is called how there and here, by the section of docs/dialects.md."""
    text = (ROOT / "docs" / "dialects.md").read_text("utf-8")
    tables = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        body = section.partition("| there | here |\n|---|---|\n")[2].split("\n\n")[0]
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines() if line]
        tables[title] = [(there, here) for there, here in rows]
    return tables


def code_spans(cell: str) -> list[str]:
    """What is set as code."""
    return re.findall(r"`([^`]+)`", cell)
