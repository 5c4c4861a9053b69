"""The workflow runs what `.ci/run` runs, and publishes the Dockerfile's images. `make lint` checks its form."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def path(root: Path) -> Path:
    """Return where the workflow lies."""
    return root / ".github" / "workflows" / "ci.yml"


@pytest.fixture
def workflow(path: Path) -> dict[Any, Any]:
    """Return the workflow. YAML takes its key `on` for `true`."""
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def uses(job: dict[str, Any], action: str) -> dict[str, Any]:
    """Return what a job hands to an action."""
    (step,) = (step for step in job["steps"] if step.get("uses", "").startswith(f"{action}@"))
    inputs: dict[str, Any] = step["with"]
    return inputs


def test_actions_are_pinned_and_may_only_read(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step


def test_runs_what_continuous_integration_runs(workflow: dict[Any, Any]) -> None:
    assert {"push", "pull_request"} == set(workflow[True])
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["test"]["steps"]]


def test_browser_plays_all_formats(workflow: dict[Any, Any]) -> None:
    (step,) = (step for step in workflow["jobs"]["test"]["steps"] if step.get("run") == ".ci/run")
    assert step["env"] == {"CHROMIUM": "/usr/bin/google-chrome"}


def test_publishes_every_image_once_tests_have_passed(root: Path, workflow: dict[Any, Any]) -> None:
    job = workflow["jobs"]["publish"]
    assert job["needs"] == "test"
    # Not for a pull request, whose author may be anybody.
    assert "github.event_name == 'push'" in job["if"]
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE)) - {"builder"}
    assert {each["target"] for each in job["strategy"]["matrix"]["include"]} == targets
    login, build = uses(job, "docker/login-action"), uses(job, "docker/build-push-action")
    assert login == {"username": "${{ vars.DOCKERHUB_USERNAME }}", "password": "${{ secrets.DOCKERHUB_TOKEN }}"}
    assert build["push"] is True
    tags = [tag.rpartition(":")[2] for tag in build["tags"].split("\n") if tag]
    assert tags == ["latest${{ matrix.suffix }}", "${{ github.sha }}${{ matrix.suffix }}"]
