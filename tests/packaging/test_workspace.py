"""What plain cargo commands do in the workspace, and which crate may use which."""

import json
import subprocess
from pathlib import Path
from typing import Any

FLOORS = [{"settings", "text", "kernels", "audio"}, {"voices", "engine"}, {"speech"}, {"http"}, {"server"}]
"""The crates from the lowest floor to the highest, without the prefix of their names."""


def metadata(root: Path) -> Any:
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    return json.loads(subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=60).stdout)


def test_cargo_run_starts_server(root: Path) -> None:
    workspace = metadata(root)
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


def test_crate_uses_lower_layers_only(root: Path) -> None:
    floor = {f"chatterbox-{name}": number for number, names in enumerate(FLOORS) for name in names}
    crates = {package["name"]: package for package in metadata(root)["packages"] if package["name"] in floor}
    assert crates.keys() == floor.keys()
    for name, crate in crates.items():
        used = {dependency["name"] for dependency in crate["dependencies"] if dependency["kind"] is None}
        for other in used & floor.keys():
            assert floor[other] < floor[name], f"{name} uses {other}"


def test_only_extension_needs_python(root: Path) -> None:
    needs = {
        package["name"]
        for package in metadata(root)["packages"]
        if any(used["name"] == "pyo3" and not used["optional"] for used in package["dependencies"])
    }
    assert needs == {"chatterbox-server"}
