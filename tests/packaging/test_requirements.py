"""The locked requirements are whole: every pin has hashes, no file names a host, and none lags behind its source."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

FILES = ("build", "chatterbox", "clients", "dev", "lock", "runpod", "runtime")


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


@pytest.mark.parametrize(
    "path", ["overrides.txt", "excludes.txt", *(f"{file}.{end}" for file in FILES for end in ("in", "txt"))]
)
def test_no_file_names_host(root: Path, path: str) -> None:
    text = (root / "requirements" / path).read_text(encoding="utf-8")
    options = r"^\s*(-i|--index-url|--extra-index-url|-f|--find-links|--trusted-host)\b"
    assert "://" not in text
    assert not re.search(options, text, flags=re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_source_is_locked(root: Path, file: str) -> None:
    source = names((root / "requirements" / f"{file}.in").read_text(encoding="utf-8"))
    assert source
    assert source <= names(locked(root, file))


@pytest.mark.parametrize(
    ("base", "over"),
    [("runtime", "dev"), ("runtime", "chatterbox"), ("chatterbox", "dev"), ("chatterbox", "runpod")],
)
def test_requirement_files_agree(root: Path, base: str, over: str) -> None:
    first, second = (set(pins(locked(root, file))) for file in (base, over))
    shared = {name(pin) for pin in first} & {name(pin) for pin in second}
    assert {"numpy", "httpx"} & shared
    assert {pin for pin in first if name(pin) in shared} == {pin for pin in second if name(pin) in shared}


def requirements(text: str) -> list[Requirement]:
    """Return the requirements of a source file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def versions(root: Path, *files: str) -> dict[str, set[str]]:
    """Return the locked versions by name."""
    found: dict[str, set[str]] = {}
    for pin in (pin for file in files for pin in pins(locked(root, file))):
        found.setdefault(name(pin), set()).add(pin.split("==")[1])
    return found


def test_overrides_and_exclusions_hold(root: Path) -> None:
    folder = root / "requirements"
    found = versions(root, "chatterbox")
    overrides = requirements((folder / "overrides.txt").read_text(encoding="utf-8"))
    assert {"torch", "torchaudio", "numpy", "setuptools"} <= {override.name for override in overrides}
    for override in overrides:
        assert found[override.name]
        assert all(override.specifier.contains(version) for version in found[override.name])
    excluded = names((folder / "excludes.txt").read_text(encoding="utf-8"))
    assert excluded
    assert not excluded & set(found)


@pytest.mark.parametrize(("extra", "file"), [("chatterbox", "chatterbox"), ("bench", "dev"), ("runpod", "runpod")])
def test_extra_asks_for_what_was_locked(root: Path, extra: str, file: str) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = versions(root, "runtime", "chatterbox", file)
    for asked in map(Requirement, project["optional-dependencies"][extra]):
        assert found[asked.name]
        assert all(asked.specifier.contains(version) for version in found[asked.name]), asked
    # It pins a torch that cannot stand beside the one that is asked for: pip would find no answer.
    assert "chatterbox-tts" not in " ".join(project["optional-dependencies"]["chatterbox"])


def test_lock_makes_every_file(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    (made,) = re.findall(r"^\tfor name in (.*); do", makefile, flags=re.MULTILINE)
    assert sorted(made.split()) == sorted(FILES)
    # Each is resolved after those that it is bound to.
    for file in FILES:
        source = (root / "requirements" / f"{file}.in").read_text(encoding="utf-8")
        for base in re.findall(r"^-c (\S+)\.txt$", source, flags=re.MULTILINE):
            assert made.split().index(base) < made.split().index(file)
