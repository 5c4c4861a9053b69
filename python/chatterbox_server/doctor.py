"""The Python part of ``chatterbox-server doctor``: packages, devices, weights and which models could be loaded."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .loading import CHATTERBOX

__all__ = ["main"]

_INSTALL = "make install-chatterbox"


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each thing; not 0 if a model of the settings (JSON) could not be loaded."""
    settings: dict[str, Any] = json.loads(arguments[0])
    report = _Report()
    report.fine("python", f"{platform.python_version()}, {platform.platform()}")
    _lite(report, wanted="lite" in settings["models"])
    missing = _missing("torch", "chatterbox", "soxr", "torchaudio")
    if missing:
        report.note("torch", f"not there: {', '.join(missing)}")
    else:
        _torch(report)
    if not missing or settings["device"] not in ("auto", "cpu"):
        _device(report, settings, missing)
    for model in CHATTERBOX:
        _chatterbox(report, model, settings, missing)
    return report.end()


class _Report:
    def __init__(self) -> None:
        self._next: str | None = None

    def fine(self, subject: str, text: str) -> None:
        self._print("ok", subject, text)

    def note(self, subject: str, text: str) -> None:
        """Something that is not there and that nothing needs."""
        self._print("--", subject, text)

    def problem(self, subject: str, text: str, command: str) -> None:
        """Something that keeps the server from starting, and the command to run next."""
        self._print("!!", subject, text)
        self._next = self._next or command

    def end(self) -> int:
        if self._next:
            print(f"Next: {self._next}", flush=True)
        return 1 if self._next else 0

    def _print(self, state: str, subject: str, text: str) -> None:
        print(f"{state}  {subject:<12} {text}", flush=True)


def _missing(*packages: str) -> list[str]:
    return [package for package in packages if importlib.util.find_spec(package) is None]


def _lite(report: _Report, *, wanted: bool) -> None:
    missing = _missing("hibari", "onnxruntime")
    if not missing:
        report.fine("lite", "can be loaded" + ("" if wanted else ": --load-lite"))
    elif wanted:
        report.problem("lite", f"not there: {', '.join(missing)}", "make install")
    else:
        report.note("lite", f"not there: {', '.join(missing)}; {_install('make install')}")


def _install(command: str) -> str:
    return f"get it with: {command}"


def _torch(report: _Report) -> None:
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    report.fine("torch", f"{torch.__version__}, CUDA devices: {', '.join(devices) or 'none'}")


def _device(report: _Report, settings: dict[str, Any], missing: list[str]) -> None:
    device = settings["device"]
    if missing:
        report.problem("device", f"{device} cannot be used without torch", _INSTALL)
        return
    from .chatterbox import assembly

    try:
        report.fine("device", assembly.choose_device(device, settings["backend"]).type)
    except assembly.SettingError as error:
        report.problem("device", str(error), "chatterbox-server --device auto")


def _chatterbox(report: _Report, model: str, settings: dict[str, Any], missing: list[str]) -> None:
    wanted = model in settings["models"]
    if missing:
        if wanted:
            report.problem(model, "cannot be loaded without torch and its companions", _INSTALL)
        else:
            report.note(model, _install(f"{_INSTALL}; then --load-{model}"))
        return
    flag = "" if wanted else f": --load-{model}"
    if settings["backend"] == "onnx":
        report.note(model, f"the graphs of BACKEND=onnx are not looked for{flag}")
        return
    found, trouble = _weights(model, settings)
    if found is not None:
        report.fine(model, f"can be loaded, weights in {found}{flag}")
    elif settings["model_path"] is None and not _OFFLINE:
        report.note(model, f"can be loaded, weights are downloaded at the first start{flag}")
    elif wanted:
        report.problem(model, trouble, f"chatterbox-server --load-{model} false")
    else:
        report.note(model, trouble)


_OFFLINE = os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "on", "yes", "true")
"""Whether the operator forbids downloads."""


def _weights(model: str, settings: dict[str, Any]) -> tuple[Path | None, str]:
    """The folder of a model's weights, or why there is none. Nothing is downloaded."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from .chatterbox.checkpoint import locate
    from .chatterbox.tensors import CheckpointError

    path = settings["model_path"]
    try:
        files = locate(
            model,
            model_path=Path(path) if path else None,
            multilingual_version=settings["multilingual_version"],
            progress=lambda *_: None,
        )
    except CheckpointError as error:
        return None, str(error)
    return files.t3.parent, ""
