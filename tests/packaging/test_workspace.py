"""What plain cargo commands do in the workspace."""

import json
import subprocess
from pathlib import Path


def test_cargo_run_starts_the_server(root: Path) -> None:
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    shown = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=60).stdout
    workspace = json.loads(shown)
    default = set(workspace["workspace_default_members"])
    binaries = {
        target["name"]
        for package in workspace["packages"]
        if package["id"] in default
        for target in package["targets"]
        if "bin" in target["kind"]
    }
    # With two to choose from, `cargo run` refuses to.
    assert binaries == {"chatterbox-server"}
