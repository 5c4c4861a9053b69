"""The Dockerfile lints clean, and each image that it builds keeps its promises."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = ("cpu", "cuda")

# An instruction as (keyword, arguments).
Stage = list[tuple[str, str]]


def instructions(dockerfile: str) -> Stage:
    """Return the instructions, continuation lines joined and comments dropped."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(keyword.upper(), arguments.strip()) for keyword, arguments in pairs]


def stages(dockerfile: str) -> dict[str, Stage]:
    """Return the instructions of each named stage, its FROM first."""
    found: dict[str, Stage] = {}
    current: Stage = []
    for keyword, arguments in instructions(dockerfile):
        if keyword == "FROM":
            current = found[arguments.split()[-1]] = []
        current.append((keyword, arguments))
    return found


@pytest.fixture(scope="module")
def built(root: Path) -> dict[str, Stage]:
    return stages((root / "Dockerfile").read_text(encoding="utf-8"))


def values(stage: Stage, keyword: str) -> list[str]:
    return [arguments for found, arguments in stage if found == keyword]


def lint(hadolint: str, dockerfile: Path) -> subprocess.CompletedProcess[str]:
    command = [hadolint, "--failure-threshold", "style", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("file", ["Dockerfile", "deploy/runpod.Dockerfile"])
def test_lints_clean(root: Path, hadolint: str, file: str) -> None:
    result = lint(hadolint, root / file)
    assert result.returncode == 0, result.stdout + result.stderr


def test_linter_refuses_untagged_base(tmp_path: Path, hadolint: str) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM debian\n", encoding="utf-8")
    assert lint(hadolint, dockerfile).returncode != 0


def test_every_base_is_pinned_by_tag(built: dict[str, Stage]) -> None:
    bases = [values(stage, "FROM")[0].split()[0] for stage in built.values()]
    unpinned = [base for base in bases if ":" not in base or base.endswith(":latest")]
    assert not unpinned


def test_default_build_target_is_cpu(built: dict[str, Stage]) -> None:
    assert list(built)[-1] == "cpu"


@pytest.mark.parametrize("target", TARGETS)
def test_runs_as_numbered_user_who_is_not_root(built: dict[str, Stage], target: str) -> None:
    # A number, because Kubernetes' runAsNonRoot cannot tell who a name is.
    user = values(built[target], "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("target", TARGETS)
def test_health_check_asks_readiness(built: dict[str, Stage], target: str) -> None:
    (check,) = values(built[target], "HEALTHCHECK")
    command = json.loads(check.split("CMD", maxsplit=1)[1])
    compile(command[-1], "<HEALTHCHECK>", "exec")
    assert "/readyz" in command[-1]


@pytest.mark.parametrize("target", TARGETS)
def test_starts_without_shell(built: dict[str, Stage], target: str) -> None:
    # A shell as process 1 would keep SIGTERM from the server, and no stream would finish on `docker stop`.
    assert json.loads(values(built[target], "ENTRYPOINT")[-1]) == ["chatterbox-server"]
    assert not values(built[target], "CMD")


@pytest.mark.parametrize("target", TARGETS)
def test_address_and_paths_match_compose(built: dict[str, Stage], target: str) -> None:
    settings = dict(pair.split("=", maxsplit=1) for line in values(built[target], "ENV") for pair in line.split())
    assert settings["HOST"] == "0.0.0.0"
    assert values(built[target], "EXPOSE") == [settings["PORT"]] == ["8081"]
    assert values(built[target], "VOLUME") == [f"{settings['VOICES_DIR']} {settings['HF_HOME']}"]
    assert (settings["VOICES_DIR"], settings["HF_HOME"]) == ("/app/voices", "/app/models")


@pytest.mark.parametrize("target", TARGETS)
def test_compile_cache_is_writable(built: dict[str, Stage], target: str) -> None:
    settings = dict(pair.split("=", maxsplit=1) for line in values(built[target], "ENV") for pair in line.split())
    assert settings["NUMBA_CACHE_DIR"].startswith("/tmp/")


@pytest.mark.parametrize("target", TARGETS)
def test_chatterbox_is_installed_from_lock(built: dict[str, Stage], target: str) -> None:
    installs = [part for run in values(built[target], "RUN") for part in run.split("&&") if "pip install" in part]
    assert any("/tmp/runtime.txt" in part for part in installs)
    assert any("/tmp/chatterbox.txt" in part or "/tmp/rest.txt" in part for part in installs)
    # The lock file has every dependency, and other versions of some than the packages ask for.
    assert all("--no-deps" in part for part in installs if "/tmp/runtime.txt" not in part)
    unchecked = [part for part in installs if "--require-hashes" not in part and "--no-index" not in part]
    assert all("https://download.pytorch.org/whl/cpu" in part for part in unchecked)
    assert bool(unchecked) == (target == "cpu")


def test_cpu_leaves_out_cuda_and_nothing_else(root: Path, built: dict[str, Stage], tmp_path: Path) -> None:
    (command,) = [run for run in values(built["cpu"], "RUN") if "awk" in run]
    parts = [part.strip() for part in command.split("&&")]
    shutil.copy(root / "requirements" / "chatterbox.txt", tmp_path)
    for part in parts:
        text = part[part.index("sed ") :] if "sed " in part else part
        if "/tmp/torch.txt" in text.partition(">")[2] or "/tmp/rest.txt" in text.partition(">")[2]:
            subprocess.run(text.replace("/tmp/", f"{tmp_path}/"), shell=True, check=True, timeout=30)
    whole, torch, rest = (
        re.findall(r"^([A-Za-z0-9._-]+)==", (tmp_path / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for file in ("chatterbox.txt", "torch.txt", "rest.txt")
    )
    assert torch == ["torch", "torchaudio"]
    assert len(rest) > 80
    assert all(name.startswith(("nvidia-", "cuda-")) or name in (*torch, "triton") for name in set(whole) - set(rest))
    assert re.fullmatch(r"(torch(audio)?==[0-9.]+\n){2}", (tmp_path / "torch.txt").read_text(encoding="utf-8"))


def test_copies_only_what_build_context_holds(root: Path, built: dict[str, Stage]) -> None:
    kept = {line[1:] for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    roots = {path.split("/")[0] for path in kept}
    copied = [source for stage in built.values() for line in values(stage, "COPY") for source in line.split()[:-1]]
    missing = [source for source in copied if source.split("/")[0] not in roots or not (root / source).exists()]
    assert copied
    assert not missing


def test_runpod_image_extends_server_image_from_lock(root: Path, built: dict[str, Stage]) -> None:
    worker = instructions((root / "deploy" / "runpod.Dockerfile").read_text(encoding="utf-8"))
    assert worker[0] == ("FROM", "chatterbox-server:cuda")
    (command,) = values(worker, "CMD")
    run = [str(Path(sys.executable).parent / "chatterbox-server"), *json.loads(command), "--help"]
    assert subprocess.run(run, capture_output=True, timeout=60, check=False).returncode == 0
    (install,) = values(worker, "RUN")
    assert "--no-deps --require-hashes --requirement /tmp/runpod.txt" in install
    assert values(worker, "USER") == ["0:0", *values(built["cuda"], "USER")[-1:]]
    # What asks the server's usual port would find nobody there.
    assert values(worker, "HEALTHCHECK") == ["NONE"]


def test_systemd_unit_uses_accepted_options(root: Path) -> None:
    unit = (root / "deploy" / "chatterbox-server.service").read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    # `--version` after the unit's own arguments: clap checks those first.
    command = [str(Path(sys.executable).parent / "chatterbox-server"), *start.split()[1:], "--version"]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
