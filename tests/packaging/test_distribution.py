"""What the distribution is called: the package index has an unrelated project under the name of the command."""

import re
import subprocess
import tomllib
from pathlib import Path

from chatterbox_server import DISTRIBUTION, how_to_install

UNRELATED = "chatterbox-server"


def test_distribution_has_name_of_its_own(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION != UNRELATED
    assert project["scripts"] == {"chatterbox-server": "chatterbox_server.cli:main"}


def test_no_message_installs_unrelated_package(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    asks = re.compile(rf"{UNRELATED}\[|install (--?\S+ )*['\"]?{UNRELATED}(?![\w-])|(?<![\w-]){UNRELATED}[=~<>]=")
    assert asks.search(f"pip install --upgrade '{UNRELATED}'")
    files = [root / name for name in listed.split("\0") if (root / name).is_file() and root / name != Path(__file__)]
    assert len(files) > 400
    found = [str(path) for path in files if asks.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert not found


def test_advice_names_existing_extras(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra in ("chatterbox", "bench", "runpod"):
        assert extra in extras
        assert f"pip install '{DISTRIBUTION}[{extra}]'" in how_to_install(extra)
    assert how_to_install("chatterbox").startswith("run: make install-chatterbox")
