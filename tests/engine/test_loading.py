from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Literal

import pytest
from chatterbox_server import loading, logs
from chatterbox_server._core import LoadSettings
from chatterbox_server.loading import LoadError, load


def test_fake_runner_serves_every_model_name() -> None:
    assert [model.name for model in load(LoadSettings(engine="fake")).models] == ["fake"]
    engine = load(LoadSettings(engine="fake", models=["standard", "turbo", "turbo"], fake_rtf=0.1))
    assert [model.name for model in engine.models] == ["standard", "turbo"]
    assert all(model.can_clone and model.sample_rate == 24_000 for model in engine.models)


def test_fake_loading_takes_configured_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    monkeypatch.setattr("time.sleep", sleeps.append)
    progress_calls: list[tuple[str, int, int]] = []
    load(LoadSettings(engine="fake", fake_load_seconds=2.5), lambda *parts: progress_calls.append(parts))
    assert sum(sleeps) == pytest.approx(2.5)
    assert progress_calls == [("weights", part, 10) for part in range(11)]


def test_lite_is_loaded() -> None:
    engine = load(LoadSettings(models=["lite"], device="cpu", threads=1))
    (model,) = engine.models
    assert (model.name, model.sample_rate, model.can_clone) == ("lite", 24_000, False)
    assert (model.voices, model.languages, engine.device) == (["heart"], ["en"], "cpu")
    assert engine.idle


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_unusable_device_is_refused(device: Literal["cuda", "mps"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    # Tests before this one may have imported it, where torch is installed.
    monkeypatch.delitem(sys.modules, "chatterbox_server.chatterbox.assembly", raising=False)
    monkeypatch.delattr("chatterbox_server.chatterbox.assembly", raising=False)
    with pytest.raises(LoadError, match=f"DEVICE: {device} cannot be used, since torch is missing"):
        load(LoadSettings(models=["lite"], device=device))


def test_no_model_is_refused() -> None:
    with pytest.raises(LoadError, match="nothing to load; set LOAD_LITE"):
        load(LoadSettings(models=[]))


@pytest.mark.parametrize("name", ["standard", "turbo", "multilingual", "nano"])
def test_without_torch_chatterbox_model_names_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "chatterbox_server.chatterbox.assembly", raising=False)
    with pytest.raises(LoadError, match=f"{name}: .*make install-chatterbox"):
        load(LoadSettings(models=["lite", name]))


def test_settings_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match='"magic" is unknown; use auto, fake'):
        LoadSettings(engine="magic")  # type: ignore[arg-type]
    with pytest.raises(LoadError, match="magic is unknown; there are standard"):
        load(LoadSettings(models=["magic"]))


def test_hub_cache_of_settings_reaches_hubs_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    load(LoadSettings(engine="fake"))
    assert os.environ["HF_HOME"] == "/elsewhere"
    load(LoadSettings(engine="fake", hf_home="/here"))
    assert os.environ["HF_HOME"] == "/here"


@pytest.mark.parametrize("package", ["hibari", "onnxruntime"])
def test_missing_package_names_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LoadError, match="pip install hibari-tts"):
        load(LoadSettings(models=["lite"]))


def test_importing_is_light() -> None:
    code = (
        "import sys, chatterbox_server.loading, chatterbox_server.lite, chatterbox_server.fake\n"
        "print(*{'hibari', 'onnxruntime', 'torch'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(loading.__file__).rsplit("/chatterbox_server/", 1)[0]}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def test_logs_and_warnings_reach_host(root_logger: logging.Logger) -> None:
    records: list[tuple[int, str, str]] = []

    def log(level: int, target: str, message: str) -> None:
        records.append((level, target, message))

    logs.install(lambda *_: pytest.fail("replaced"))
    logs.install(log)
    logger = logging.getLogger("some.module")
    logger.debug("too quiet")
    logger.info("loaded %d", 3)
    try:
        raise KeyError("gone")
    except KeyError:
        logger.exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert records[0] == (logging.INFO, "some.module", "loaded 3")
    assert records[1][0] == logging.ERROR
    assert "Traceback" in records[1][2]
    assert "KeyError: 'gone'" in records[1][2]
    assert records[2][:2] == (logging.WARNING, "py.warnings")
    assert "old" in records[2][2]


def test_failing_host_log_does_not_stop_program(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    def log(level: int, target: str, message: str) -> None:
        raise OSError("gone")

    logs.install(log)
    logging.getLogger("x").error("hello")
    assert "OSError: gone" in capsys.readouterr().err
