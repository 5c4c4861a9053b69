"""`make` lists its targets, and `check-tools` names each missing tool with the way to get it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What the check itself needs, beside the tools that it looks for.
SHELL = ("sh", "bash", "sed", "cut", "sort", "head", "dirname")
TOOLS = ("cc", "c++", "cmake", "pkg-config", "cargo", "rustc")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder to use as PATH that holds every tool."""
    for name in SHELL:
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    for name in TOOLS:
        script(tmp_path / name, "echo 'tool 99.0.0'")
    return tmp_path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def check(root: Path, tools: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [str(root / "scripts" / "check-tools.sh"), python]
    return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60, check=False)


def make(root: Path, *arguments: str) -> str:
    """Return what `make` prints, without the flags and the level of one that runs these tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


def test_help_is_default_and_lists_every_public_target(root: Path) -> None:
    listed = set(re.findall(r"^  make ([a-z0-9-]+) ", make(root), flags=re.MULTILINE))
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: ([a-z0-9-]+)$", makefile, flags=re.MULTILINE))
    assert {"run", "test", "bench"} <= listed
    assert listed == phony


def test_all_tools_found(root: Path, tools: Path) -> None:
    result = check(root, tools)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("tool", "way"),
    [
        ("cc", "build-essential"),
        ("c++", "build-essential"),
        ("cmake", "cmake"),
        ("pkg-config", "pkg-config"),
        ("cargo", "rustup"),
    ],
)
def test_missing_tool_names_install_command(root: Path, tools: Path, tool: str, way: str) -> None:
    (tools / tool).unlink()
    result = check(root, tools)
    assert result.returncode == 1
    assert tool in result.stderr
    assert way in result.stderr
    assert result.stderr.count("missing:") == 1


def test_old_rust_is_refused(root: Path, tools: Path) -> None:
    script(tools / "rustc", "echo 'rustc 1.63.0'")
    result = check(root, tools)
    assert result.returncode == 1
    assert "found 1.63.0" in result.stderr


def test_no_python_is_refused(root: Path, tools: Path) -> None:
    result = check(root, tools, python="")
    assert result.returncode == 1
    assert "python3-venv" in result.stderr


@pytest.mark.parametrize(
    ("failing", "way"),
    [("version_info", "Python 3.11 or later"), ("ensurepip", "python3-venv"), ("Python.h", "python3-dev")],
)
def test_incomplete_python_is_refused(root: Path, tools: Path, failing: str, way: str) -> None:
    script(tools / "fake-python", f'case "$2" in *{failing}*) exit 1 ;; esac')
    result = check(root, tools, python="fake-python")
    assert result.returncode == 1
    assert way in result.stderr
    assert result.stderr.count("missing:") == 1


def prerequisites(root: Path, target: str) -> set[str]:
    """Return what a target of the Makefile is made of."""
    shown = make(root, "--print-data-base", "--question", "--no-builtin-rules", "help")
    (found,) = re.findall(rf"^{re.escape(target)}: (.*)$", shown, flags=re.MULTILINE)
    return set(found.split())


def test_edits_of_python_files_and_of_readme_compile_no_rust(root: Path) -> None:
    develop, wheel = (prerequisites(root, f".venv/.stamps/{stamp}") for stamp in ("develop", "wheel"))
    assert "rust-tts/src/cli.rs" in develop & wheel
    assert "python/chatterbox_server/engine.py" in wheel - develop
    assert not [path for path in develop if path.endswith(".py")]
    assert "README.md" not in develop | wheel


def test_fast_tests_exist_and_need_no_torch(root: Path) -> None:
    shown = make(root, "--dry-run", "test-fast")
    (listed,) = re.findall(r"-m pytest -q (tests/engine .*)$", shown, flags=re.MULTILINE)
    assert all((root / path).exists() for path in listed.split())
    assert "cargo clippy" in shown
    assert "mypy" not in shown
    assert "requirements/chatterbox.txt" not in shown
    assert "maturin build" not in shown
