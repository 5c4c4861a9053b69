"""Write THIRD_PARTY.md: every component that is linked into the server or installed with it, and its licence.

The crates come from `cargo metadata` (Cargo.lock), the Python packages from requirements/runtime.txt and chatterbox.txt
and, for their licences, from the metadata of what is installed beside this interpreter. With `--check` nothing is
written, and the exit status is 1 when the table's names and versions are not those of the lock files; the packages need
not be installed then. Needs no network once the crates are downloaded, as they are after any build.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "THIRD_PARTY.md"
PACKAGE = "chatterbox-server"
# The platform of the wheels and images. Crates for other platforms are in Cargo.lock but in no binary.
TARGET = "x86_64-unknown-linux-gnu"

# How the names of NVIDIA's libraries begin, which torch's wheels for Linux load.
NVIDIA = ("nvidia-", "cuda-toolkit")

INTRO = f"""\
# Third-party components

What is linked into the server (the crates, for {TARGET}) or installed with it (the Python packages; those of the
Chatterbox models only by `make install-chatterbox` and in the images), and under which licence. The weights of the
Chatterbox models are no part of it: they are downloaded when they are first asked for. Written by `make third-party`;
`make lint` fails when a lock file has moved on.
"""

# Native code that crates bring or link to, which `cargo metadata` knows only by the name of the library.
NATIVE = {
    "fdk-aac-sys": "carries the Fraunhofer FDK AAC codec (FDK-AAC licence; its patents are not licensed)",
    "mp3lame-sys": "carries LAME (LGPL-2.0-or-later)",
    "opusic-sys": "carries libopus (BSD-3-Clause)",
    "pyo3": "uses the Python that runs it (PSF-2.0)",
    "pyo3-ffi": "uses the Python that runs it (PSF-2.0)",
}
# What else is to be known of Python packages: data and native code in their wheels, and where a licence asks for more.
NOTES = {
    "hibari-tts": "carries the weights of its voices, under the same licence",
    "llvmlite": "carries LLVM",
    "pykakasi": "used to read Japanese; the server runs without it",
    "resemble-perth": "carries the weights of its watermark, under the same licence",
    "soundfile": "its wheels carry libsndfile (LGPL-2.1-or-later)",
    "soxr": "carries libsoxr (LGPL-2.1-or-later)",
}
# Where the metadata name no licence, or quote one in full, and for packages of other systems and Python versions.
LICENCES = {
    "audioop-lts": "PSF-2.0",
    "colorama": "BSD-3-Clause",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "scipy": "BSD-3-Clause",
    "standard-aifc": "PSF-2.0",
    "standard-chunk": "PSF-2.0",
    "standard-sunau": "PSF-2.0",
}

# Files of others that lie in this repository.
CARRIED = "rust-tts/http/assets/swagger-ui"


class Component(NamedTuple):
    """One row of the table."""

    name: str
    version: str
    licence: str
    note: str

    def row(self) -> str:
        return f"| {self.name} | {self.version} | {self.licence} | {self.note} |"


def crates() -> list[Component]:
    """Return the crates that are linked into the server: no macros, no build scripts, no tests."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features", "--filter-platform", TARGET]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    tree: dict[str, Any] = json.loads(answer.stdout)
    packages = {package["id"]: package for package in tree["packages"]}
    nodes = {node["id"]: node for node in tree["resolve"]["nodes"]}

    members = tree["workspace_members"]
    waiting = [member for member in members if packages[member]["name"] == PACKAGE]
    linked: set[str] = set()
    while waiting:
        node = nodes[waiting.pop()]
        for dependency in node["deps"]:
            key = dependency["pkg"]
            is_macro = any("proc-macro" in target["kind"] for target in packages[key]["targets"])
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and not is_macro and key not in linked:
                linked.add(key)
                waiting.append(key)

    rows = []
    for package in (packages[key] for key in linked.difference(members)):
        name = package["name"]
        if package["links"] and name not in NATIVE:
            sys.exit(f"{name} links to native code ({package['links']}): say in NATIVE which, and its licence")
        licence = package["license"] or f"see {package['license_file']} in the crate"
        rows.append(Component(name, package["version"], licence.replace("/", " OR "), NATIVE.get(name, "")))
    return sorted(rows)


def carried() -> list[Component]:
    """Return what of others lies in the repository itself, and is compiled into the server."""
    about = (ROOT / CARRIED / "README.md").read_text(encoding="utf-8")
    found = re.search(r"`(swagger-ui-dist)` (\S+) \(([^)]+)\)", about)
    if not found:
        sys.exit(f"{CARRIED}/README.md does not say which version it is, under which licence")
    note = f"what `/docs` shows; [licences of what its bundle carries]({CARRIED}/swagger-ui-bundle.js.LICENSE.txt)"
    return [Component(found[1], found[2], found[3], note)]


def python_packages(file: str, *, with_licences: bool, without: Collection[str] = ()) -> list[Component]:
    """Return the pinned packages of a lock file; where the pins differ by Python version, all of them in one row."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            pins.setdefault(pin[1], []).append(pin[2])
    return [
        Component(name, ", ".join(versions), licence_of(name) if with_licences else "", note_on(name))
        for name, versions in sorted(pins.items())
        if name not in without
    ]


def licence_of(name: str) -> str:
    """Return the licence that an installed Python package states, in words of its own or as a classifier."""
    if name in LICENCES:
        return LICENCES[name]
    try:
        about = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        sys.exit(f"{name} is not installed: run `make third-party`, or give its licence in LICENCES")
    classifiers = [one.rpartition(" :: ")[2] for one in about.get("classifier", []) if one.startswith("License :: ")]
    stated = about.get("license_expression") or about.get("license") or ", ".join(classifiers)
    if not isinstance(stated, str) or not stated.strip():
        sys.exit(f"{name} states no licence in its metadata: look it up and give it in LICENCES")
    return stated.strip().splitlines()[0]


def note_on(name: str) -> str:
    """Return what else is to be known of a Python package."""
    if name.startswith(NVIDIA):
        return "one of NVIDIA's libraries for CUDA; on Linux alone"
    return NOTES.get(name, "")


def python_sections(*, with_licences: bool) -> dict[str, list[Component]]:
    """Return the packages that are always installed, and those that the Chatterbox models need on top."""
    runtime = python_packages("runtime.txt", with_licences=with_licences)
    shared = {component.name for component in runtime}
    return {
        "Python packages": runtime,
        "Python packages of the Chatterbox models": python_packages(
            "chatterbox.txt", with_licences=with_licences, without=shared
        ),
    }


def page(sections: dict[str, list[Component]]) -> str:
    """Return the whole document."""
    text = INTRO
    for title, rows in sections.items():
        text += f"\n## {title}\n\n| component | version | licence | note |\n|---|---|---|---|\n"
        text += "".join(f"{component.row()}\n" for component in rows)
    return text


def names_and_versions(text: str) -> set[tuple[str, ...]]:
    """Return the first two cells of each row, headings included."""
    return {tuple(cells) for cells in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, flags=re.MULTILINE)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write THIRD_PARTY.md from the lock files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the table is out of date")
    check: bool = parser.parse_args().check

    text = page({"Rust crates": crates(), "Carried files": carried(), **python_sections(with_licences=not check)})
    if not check:
        TABLE.write_text(text, encoding="utf-8")
        return 0
    before = names_and_versions(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else set()
    changed = sorted(before ^ names_and_versions(text))
    if changed:
        listed = "\n".join("  " + " ".join(cells) for cells in changed)
        print(f"THIRD_PARTY.md is out of date; `make third-party` writes it. Differing:\n{listed}", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
