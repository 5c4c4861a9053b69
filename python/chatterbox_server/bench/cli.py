"""The command ``chatterbox-server bench``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import how_to_install
from . import engine_command, server_command
from .child import BenchError

__all__ = ["main"]

PROGRAM = "chatterbox-server bench"


def main(arguments: Sequence[str]) -> int:
    """Measure what ``arguments`` say; returns the exit status."""
    # The host gave SIGINT back to the system, which would leave the processes that are started here behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Measure the engine, or a server under load.")
    commands = parser.add_subparsers(required=True, metavar="engine|server")
    for module, name, summary in (
        (engine_command, "engine", "the engine by itself, part by part, beside upstream's package"),
        (server_command, "server", "a server under load: how many streams it carries in real time"),
    ):
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_options(command)
        command.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to FILE")
        command.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the figures into FILE.png")
        command.set_defaults(module=module)
    try:
        given = parser.parse_args(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    try:
        return _run(given)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace) -> int:
    # Now, and not after half an hour of measuring.
    _check_plot(given.plot)
    results: dict[str, Any] = {"began": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": _machine()}
    results |= given.module.measure(given, _log)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(given.module.render(results), flush=True)
    if given.plot is not None:
        from . import plots

        plots.draw(results, given.plot)
    return 0


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix != ".png":
        raise BenchError(f"--plot: {path} does not end with .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchError(f"--plot needs matplotlib; {how_to_install('bench')}")


def _machine() -> dict[str, object]:
    """The machine that the figures were taken on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _log(what: str) -> None:
    """Progress, for people."""
    print(what, file=sys.stderr, flush=True)
