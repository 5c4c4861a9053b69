"""Write THIRD_PARTY.md: every component that is linked into the server or installed with it, and its licence.

`cargo tree` lists the crates, the lock files in requirements/ list the Python packages, and pip-licenses lists the
licences of those that are installed. With `--check` nothing is written, and a table that is out of date is status 1.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "THIRD_PARTY.md"
# The platform of the wheels and images. Crates for other platforms are in Cargo.lock but in no binary.
TARGET = "x86_64-unknown-linux-gnu"
# Files of others that lie in this repository.
CARRIED = "rust-tts/http/assets/swagger-ui"

INTRO = f"""\
# Third-party components

What is linked into the server (the crates, for {TARGET}) or installed with it (the Python packages; those of the
Chatterbox models only by `make install-chatterbox` and in the images), and under which licence. The weights of the
Chatterbox models are no part of it: they are downloaded at first use. Written by `make third-party`;
`make lint` fails when a lock file has moved on.
"""

# Data and native code in crates and wheels, and where a licence requires more.
NOTES = {
    "fdk-aac-sys": "carries the Fraunhofer FDK AAC codec (FDK-AAC licence; its patents are not licensed)",
    "hibari-tts": "carries the weights of its voices, under the same licence",
    "llvmlite": "carries LLVM",
    "mp3lame-sys": "carries LAME (LGPL-2.0-or-later)",
    "opusic-sys": "carries libopus (BSD-3-Clause)",
    "pykakasi": "used to read Japanese; the server runs without it",
    "pyo3": "uses the Python that runs it (PSF-2.0)",
    "pyo3-ffi": "uses the Python that runs it (PSF-2.0)",
    "resemble-perth": "carries the weights of its watermark, under the same licence",
    "soundfile": "its wheels carry libsndfile (LGPL-2.1-or-later)",
    "soxr": "carries libsoxr (LGPL-2.1-or-later)",
}
# Declarations alone.
BINDINGS = {"linux-raw-sys", "nvml-wrapper-sys"}
# Packages of other systems and Python versions, and those whose metadata name no licence or quote one in full.
LICENCES = {
    "audioop-lts": "PSF-2.0",
    "colorama": "BSD-3-Clause",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "scipy": "BSD-3-Clause",
    "standard-aifc": "PSF-2.0",
    "standard-chunk": "PSF-2.0",
    "standard-sunau": "PSF-2.0",
}


def row(name: str, version: str, licence: str) -> str:
    """Return a row of the table."""
    note = NOTES.get(name, "")
    if name.startswith(("nvidia-", "cuda-toolkit")):
        note = "one of NVIDIA's libraries for CUDA; on Linux alone"
    return f"| {name} | {version} | {licence} | {note} |"


def output(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def crates() -> list[str]:
    """Return the crates that are linked into the server: no macros, no build scripts, no tests."""
    shown = output(
        *("cargo", "tree", "--package=chatterbox-server", "--all-features", "--locked", f"--target={TARGET}"),
        *("--edges=normal,no-proc-macro", "--prefix=none", "--format={p}|{l}"),
    )
    # The workspace's own crates have a path behind the version.
    found = re.findall(r"^(\S+) v(\S+)\|(.+?)(?: \(\*\))?$", shown, flags=re.MULTILINE)
    native = {name for name, _, _ in found if name.endswith("-sys")}
    if unknown := native - NOTES.keys() - BINDINGS:
        sys.exit(
            f"{', '.join(sorted(unknown))}: say in NOTES which native code it carries or links to, and its licence"
        )
    return [row(name, version, licence.replace("/", " OR ")) for name, version, licence in sorted(set(found))]


def carried() -> list[str]:
    """Return what of others lies in the repository itself, and is compiled into the server."""
    about = (ROOT / CARRIED / "README.md").read_text(encoding="utf-8")
    found = re.search(r"`(swagger-ui-dist)` (\S+) \(([^)]+)\)", about)
    if not found:
        sys.exit(f"{CARRIED}/README.md does not say which version it is, under which licence")
    note = f"what `/docs` shows; [licences of what its bundle carries]({CARRIED}/swagger-ui-bundle.js.LICENSE.txt)"
    return [f"| {found[1]} | {found[2]} | {found[3]} | {note} |"]


def python_packages() -> dict[str, list[str]]:
    """Return the packages that are always installed, and those that the Chatterbox models need on top."""
    runtime = pins("runtime.txt")
    models = {name: versions for name, versions in pins("chatterbox.txt").items() if name not in runtime}
    listed = json.loads(output(sys.executable, "-m", "piplicenses", "--from=all", "--format=json", "--with-system"))
    licences = {normal(each["Name"]): stated(each) for each in listed} | LICENCES
    missing = [name for name in (*runtime, *models) if licences.get(name, "UNKNOWN") == "UNKNOWN"]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed, or without a licence in the metadata; give it in LICENCES")

    def rows(found: dict[str, list[str]]) -> list[str]:
        return [row(name, ", ".join(versions), licences[name]) for name, versions in sorted(found.items())]

    return {"Python packages": rows(runtime), "Python packages of the Chatterbox models": rows(models)}


def stated(package: dict[str, str]) -> str:
    """Return the licence that a package's metadata state, in the most precise form that they have it."""
    fields = (package[f"License-{field}"] for field in ("Expression", "Metadata", "Classifier"))
    return next((text.strip().splitlines()[0] for text in fields if text != "UNKNOWN"), "UNKNOWN")


def pins(file: str) -> dict[str, list[str]]:
    """Return the versions of each package in a lock file; they may differ by Python version."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^ ;]+)", (ROOT / "requirements" / file).read_text(encoding="utf-8"), flags=re.MULTILINE
    ):
        found.setdefault(name, []).append(version)
    return found


def normal(name: str) -> str:
    """Return a package's name as lock files spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def page(sections: dict[str, Iterable[str]]) -> str:
    """Return the whole document."""
    head = "| component | version | licence | note |\n|---|---|---|---|"
    return INTRO + "".join(f"\n## {title}\n\n{head}\n" + "\n".join(rows) + "\n" for title, rows in sections.items())


def names_and_versions(text: str) -> set[str]:
    """Return the first two cells of each row. The licences' words differ by the Python version, as packages do."""
    return set(re.findall(r"^\| [^|]+ \| [^|]+ \|", text, flags=re.MULTILINE))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write THIRD_PARTY.md from the lock files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the table is out of date")
    check: bool = parser.parse_args().check
    text = page({"Rust crates": crates(), "Carried files": carried(), **python_packages()})
    if not check:
        TABLE.write_text(text, encoding="utf-8")
        return 0
    before = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    changed = sorted(names_and_versions(before) ^ names_and_versions(text))
    if changed:
        print(
            "THIRD_PARTY.md is out of date; `make third-party` writes it. Differing:",
            *changed,
            sep="\n",
            file=sys.stderr,
        )
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
