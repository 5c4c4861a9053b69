"""Everything that is measured on an NVIDIA GPU, in less than ten minutes, without a network.

``make bench-gpu`` runs it. Checkpoints of the real size with random weights are made first, unless they are there. What
does not fit into its share of the time is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
CHECKPOINTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "chatterbox-server", "random-weights")
TOTAL_SECONDS = 590.0
LISTENERS = {"turbo": "1,16,64,128,256,384,512", "standard": "1,8,32,64,128,192"}
FIRST_AUDIO_SECONDS = 0.3
DURATION_SECONDS = 12.0
STAGE_SHARES = {"engine": 0.5, "turbo": 0.6, "standard": 1.0}
"""Of the time that is left when a stage begins, what it may take."""


def device() -> dict[str, Any]:
    """The machine and versions behind the figures."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("There is no NVIDIA GPU that torch can use.")
    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "memory_gib": properties.total_memory / 2**30, "torch": torch.__version__}


def run(name: str, command: list[str], result: Path, seconds: float) -> dict[str, Any]:
    """A stage's JSON, or why there is none."""
    print(f"== {name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
    began = time.perf_counter()
    result.unlink(missing_ok=True)
    # In a session of its own, so that what it has started can be ended with it: memory of the GPU would stay taken.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        ended = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return {"failed": f"not done within {seconds:.0f} s"}
    if ended:
        return {"failed": f"ended with {ended}"}
    return {"seconds": time.perf_counter() - began, **json.loads(result.read_text(encoding="utf-8"))}


def stages(given: argparse.Namespace) -> dict[str, list[str]]:
    """Commands by name. Each writes ``--json``."""
    engine = [
        str(Path(sys.executable).with_name("chatterbox-server")),
        "bench",
        "engine",
        "--device",
        "cuda",
        "--quick",
    ]
    models = [name for name in LISTENERS if name in given.models]
    commands = {"engine": [*engine, "--random-weights", str(given.checkpoints), "--models", ",".join(models)]}
    for model in models:
        options = ("--device", "cuda", "--listeners", LISTENERS[model], "--profiles", given.profile)
        limits = ("--first-audio", str(FIRST_AUDIO_SECONDS), "--duration", str(DURATION_SECONDS), "--together", "64")
        path = str(given.checkpoints / model)
        commands[model] = [sys.executable, str(BENCH / "listeners.py"), path, "--model", model, *options, *limits]
    return commands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(LISTENERS))
    parser.add_argument("--profile", default="balanced")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of random weights (3 GB a model)")
    parser.add_argument("--json", type=Path, default=BENCH / "results" / "gpu.json")
    given = parser.parse_args()
    began = time.perf_counter()
    results: dict[str, Any] = {"bench": "gpu", "device": device()}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    for name, command in stages(given).items():
        left = TOTAL_SECONDS - (time.perf_counter() - began)
        part = given.json.with_suffix(f".{name}.json")
        results[name] = run(name, [*command, "--json", str(part)], part, STAGE_SHARES[name] * left)
        # Whatever happens to the next stage, this one's figures are kept.
        given.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
        part.unlink(missing_ok=True)
    print(f"All figures are in {given.json}.")


if __name__ == "__main__":
    main()
