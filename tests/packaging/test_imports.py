"""Which modules of the Python package import which."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "chatterbox_server"


def modules(root: Path) -> dict[str, Path]:
    folder = root / "python"
    named = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in folder.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """What a module imports of the package: at its top, within functions, and for its types alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole in known else module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def arrows(root: Path) -> dict[str, set[str]]:
    known = modules(root)
    return {
        name: {target for target in imported(name, path, known) if target in known and target != name}
        for name, path in known.items()
    }


def test_imports_have_no_circle(root: Path) -> None:
    # Raises ``CycleError``, whose message names the modules of the circle.
    order = list(graphlib.TopologicalSorter(arrows(root)).static_order())
    assert f"{PACKAGE}.chatterbox.runner" in order


def test_production_does_not_import_bench(root: Path) -> None:
    bench = f"{PACKAGE}.bench"
    assert any(name.startswith(bench) for name in arrows(root))
    strays = {
        (name, target)
        for name, targets in arrows(root).items()
        for target in targets
        if target.startswith(bench) and not name.startswith(bench)
    }
    assert not strays
