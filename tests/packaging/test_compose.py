"""The compose files follow the specification and build the images that exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = {"docker-compose.yml": "cpu", "docker-compose.gpu.yml": "cuda"}


def service(root: Path, name: str) -> dict[str, Any]:
    """Return a file's one service, over what it extends."""
    (found,) = yaml.safe_load((root / name).read_text(encoding="utf-8"))["services"].values()
    base = found.pop("extends", None)
    return {**service(root, base["file"]), **found} if base else found


def validate(check_jsonschema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [check_jsonschema, "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", FILES)
def test_follows_specification(root: Path, check_jsonschema: str, name: str) -> None:
    result = validate(check_jsonschema, root / name)
    assert result.returncode == 0, result.stdout + result.stderr


def test_validator_refuses_unknown_key(tmp_path: Path, check_jsonschema: str) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text("services: {a: {image: b, restrat: always}}\n", encoding="utf-8")
    assert validate(check_jsonschema, path).returncode != 0


@pytest.mark.parametrize(("name", "target"), FILES.items())
def test_builds_target_of_dockerfile(root: Path, name: str, target: str) -> None:
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    assert service(root, name)["build"]["target"] == target
    assert re.search(rf"^FROM \S+ AS {target}$", dockerfile, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_restarts_after_fatal_error_and_stops_gracefully(root: Path, name: str) -> None:
    found = service(root, name)
    assert found["restart"] == "unless-stopped"
    assert found["stop_grace_period"] == "60s"


@pytest.mark.parametrize("name", FILES)
def test_container_has_no_privileges(root: Path, name: str) -> None:
    found = service(root, name)
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True


@pytest.mark.parametrize("name", FILES)
def test_port_is_published_on_loopback_by_default(root: Path, name: str) -> None:
    (port,) = service(root, name)["ports"]
    assert port == "${PUBLISH:-127.0.0.1:8081}:8081"


@pytest.mark.parametrize("name", FILES)
def test_voices_and_weights_are_on_volumes(root: Path, name: str) -> None:
    found = service(root, name)
    kept = {volume.rpartition(":")[2] for volume in found["volumes"]}
    assert kept == {found["environment"]["VOICES_DIR"], found["environment"]["HF_HOME"]}
    assert {"voices", "models"} <= set(yaml.safe_load((root / name).read_text(encoding="utf-8"))["volumes"])


def test_gpu_file_reserves_gpu(root: Path) -> None:
    (device,) = service(root, "docker-compose.gpu.yml")["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
