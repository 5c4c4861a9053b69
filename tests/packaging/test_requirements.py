"""The locked requirements are whole: every pin has hashes, no file names a host, and none lags behind its source."""

import re
from pathlib import Path

import pytest

FILES = ("build", "dev", "lock", "runtime")


def locked(root: Path, file: str) -> str:
    """Return the text of a locked file."""
    return (root / "requirements" / f"{file}.txt").read_text(encoding="utf-8")


def name(pin: str) -> str:
    """Return the name in `name==version`."""
    return pin.split("==", maxsplit=1)[0]


def pins(text: str) -> dict[str, list[str]]:
    """Return the hashes of each `name==version`; a pin may stand more than once, for different Pythons."""
    entries = re.sub(r"\\\n", " ", text).splitlines()
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.strip() and not entry.lstrip().startswith("#"):
            found[entry.split()[0]] = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
    return found


def names(text: str) -> set[str]:
    """Return the normalised names of the requirements in a source or locked file."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", text, flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", each).lower() for each in found}


@pytest.mark.parametrize("file", FILES)
def test_every_pin_has_hashes(root: Path, file: str) -> None:
    found = pins(locked(root, file))
    assert found
    assert [pin for pin, hashes in found.items() if not hashes or "==" not in pin] == []


@pytest.mark.parametrize("path", [f"{file}.{end}" for file in FILES for end in ("in", "txt")])
def test_no_file_names_a_host(root: Path, path: str) -> None:
    text = (root / "requirements" / path).read_text(encoding="utf-8")
    options = r"^\s*(-i|--index-url|--extra-index-url|-f|--find-links|--trusted-host)\b"
    assert "://" not in text
    assert not re.search(options, text, flags=re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_source_is_locked(root: Path, file: str) -> None:
    source = names((root / "requirements" / f"{file}.in").read_text(encoding="utf-8"))
    assert source
    assert source <= names(locked(root, file))


def test_tests_run_on_the_pins_of_the_server(root: Path) -> None:
    runtime, dev = (set(pins(locked(root, file))) for file in ("runtime", "dev"))
    shared = {name(pin) for pin in runtime} & {name(pin) for pin in dev}
    assert {"numpy", "onnxruntime"} <= shared
    assert {pin for pin in runtime if name(pin) in shared} == {pin for pin in dev if name(pin) in shared}
