"""One side of a comparison in a process of its own: ``python -m chatterbox_server.bench.worker SIDE SETTINGS``.

It answers each line of JSON on standard input with one on standard output: first what loading took, then measurements.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

from .process import memory_mb, peak_memory_mb

__all__ = ["main"]


def main() -> None:
    side, settings = sys.argv[1], json.loads(sys.argv[2])
    # Libraries print what they like to standard output.
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as answers:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        if side == "weights":
            from .random_weights import ensure

            ensure(settings["kind"], Path(settings["root"]), full=settings["full"])
            _answer(answers, {})
            return
        try:
            measured = _load(side, settings)
        except Exception as error:
            _fail(answers, error)
            return
        _answer(answers, {"memory_mb": memory_mb(), "peak_mb": peak_memory_mb()})
        for line in sys.stdin:
            request: dict[str, Any] = json.loads(line)
            try:
                _answer(answers, getattr(measured, request.pop("measure"))(**request))
            except Exception as error:
                _fail(answers, error)


def _load(side: str, settings: dict[str, Any]) -> Any:
    if side == "rates":
        from .machine import Machine

        return Machine(settings)
    if side == "ours":
        from .ours import Ours

        return Ours(settings)
    from .upstream import Upstream

    return Upstream(settings)


def _answer(answers: TextIO, result: object) -> None:
    answers.write(json.dumps({"result": result}) + "\n")


def _fail(answers: TextIO, error: Exception) -> None:
    """Those that are written for people are a sentence; of the others the log has more."""
    traceback.print_exc()
    answers.write(json.dumps({"error": str(error) or type(error).__name__, "kind": type(error).__name__}) + "\n")


if __name__ == "__main__":
    main()
