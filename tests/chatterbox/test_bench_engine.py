"""``bench engine`` on a tiny checkpoint: every figure is there and follows from the others. No time is judged."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from chatterbox_server.bench import cli, comparison, engine_command
from chatterbox_server.bench.distance import compare, decibels
from chatterbox_server.bench.rows import Row, target
from PIL import Image

PARTS = (
    "load",
    "peak memory",
    "T3 step, 1 request",
    "T3 prefill",
    "T3 prefill, warm voice",
    "T3 step, 2 requests",
    "S3Gen, 25 tokens",
    "estimator, once, 25 tokens",
    "S3Gen, 10 tokens",
    "estimator, once, 10 tokens",
    "vocoder, 1 s",
    "watermark, 1 s",
    "4 s utterance, whole",
    "4 s utterance, real-time factor",
    "first audio, streamed",
    "4 s utterance, streamed",
)
WITH_FLOORS = {
    name for name in PARTS if name.startswith(("T3", "S3Gen", "estimator", "vocoder", "4 s utterance, whole"))
}
ALONE = ("8 at once, against in a row",)
"""Upstream speaks one at a time."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, checkpoints: Callable[[str], Path]) -> Path:
    """A folder of random weights in which turbo is there already."""
    root = tmp_path_factory.mktemp("weights")
    (root / "tiny").mkdir()
    (root / "tiny" / "turbo").symlink_to(checkpoints("turbo"))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[dict[str, Any], Path]:
    """The JSON and the plot of one run."""
    folder = tmp_path_factory.mktemp("bench")
    options = ["--tiny", "--quick", "--threads", "1", "--batches", "1,2,8", "--precisions", "fp32,bf16"]
    files = ["--json", str(folder / "made" / "bench.json"), "--plot", str(folder / "bench.png")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "SECONDS", 0.4)
        shortest: dict[str, Any] = {
            "rounds": 1,
            "steps": 2,
            "together_seconds": 0.2,
            "lengths": (0.2, 0.4),
            "distance_tokens": 8,
        }
        patch.setattr(engine_command, "_QUICK", replace(engine_command._QUICK, **shortest))
        assert cli.main(["engine", "--random-weights", str(weights), *options, *files]) == 0
    return json.loads((folder / "made" / "bench.json").read_text("utf-8")), folder / "bench.png"


@pytest.mark.timeout(600)
def test_report_has_every_row_for_both_sides(run: tuple[dict[str, Any], Path]) -> None:
    results, _ = run
    assert results["bench"] == "engine"
    assert results["rates"]["read_bytes"] > 0 < results["rates"]["flops"]
    assert [(each["model"], each["precision"]) for each in results["models"]] == [("turbo", "fp32"), ("turbo", "bf16")]
    for model in results["models"]:
        assert model["skipped"] == {}
        rows = {row["name"]: row for row in model["rows"]}
        assert set(PARTS) | set(ALONE) <= set(rows)
        for name in PARTS:
            assert rows[name]["ours"] > 0, name
            assert rows[name]["upstream"] > 0, name
            assert len(rows[name]["rounds"]["ours"]) == len(rows[name]["rounds"]["upstream"]), name
        assert {name for name in rows if rows[name]["floor"]} >= WITH_FLOORS
        assert all(rows[name]["upstream"] is None and rows[name]["ours"] > 0 for name in ALONE)
        assert [each["requests"] for each in model["throughput"]] == [1, 2, 8]
        assert all(each["memory_mb"] > 0 for each in model["lengths"])


@pytest.mark.timeout(600)
def test_ratios_are_of_pairs_and_floors_of_rates(run: tuple[dict[str, Any], Path]) -> None:
    for model in run[0]["models"]:
        for row in model["rows"]:
            ours, theirs = row["rounds"]["ours"], row["rounds"]["upstream"]
            assert row["ours"] == median(ours)
            if theirs:
                assert row["ratio"] == pytest.approx(median(a / b for a, b in zip(theirs, ours, strict=True)))
            if row["floor"]:
                assert row["times_floor"] == pytest.approx(row["ours"] / row["floor"])


@pytest.mark.timeout(600)
def test_reduced_precision_reports_its_error(run: tuple[dict[str, Any], Path]) -> None:
    exact, reduced = run[0]["models"]
    assert exact["distance"] is None
    distance = reduced["distance"]
    assert 0 < distance["logit_kl"] < 0.1
    assert 0.5 < distance["top1"] <= 1
    # S3Gen is fp32 in both.
    assert distance["mel_db"] == 0 < distance["other_seed_db"]


@pytest.mark.timeout(600)
def test_plot_is_written_as_image(run: tuple[dict[str, Any], Path]) -> None:
    with Image.open(run[1]) as picture:
        assert picture.format == "PNG"
        picture.load()
        assert min(picture.size) > 300


def test_ratio_pairs_simultaneous_measurements() -> None:
    row = Row(name="made up", unit="ms", floor=2.0)
    # The machine was four times as slow in the middle, for both.
    for ours, theirs in (([4.0, 5.0, 6.0], [10.0]), ([20.0], [40.0]), ([5.0], [10.0])):
        row.pair(ours, theirs)
    assert row.ratio == 2.0
    assert row.of_floor == 2.5
    alone = Row(name="made up", unit="ms")
    alone.pair([3.0], None)
    assert (alone.ratio, alone.of_floor) == (None, None)


def test_distances_match_known_values() -> None:
    expected = np.array([[0.5, 0.5, 0.0], [0.1, 0.8, 0.1]], np.float32)
    other = np.array([[0.25, 0.75, 0.0], [0.1, 0.8, 0.1]], np.float32)
    assert compare(expected, expected) == {"logit_kl": 0.0, "top1": 1.0}
    divergence = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert compare(expected, other) == {"logit_kl": pytest.approx(divergence / 2, rel=1e-5), "top1": 0.5}
    mel = np.zeros((80, 10), np.float32)
    assert decibels(mel + 1, mel) == pytest.approx(8.686)


def test_targets_distinguish_exact_from_reduced() -> None:
    assert target("T3 step, 1 request", "standard", exact=True) == "3.5x / 4x"
    assert target("T3 step, 1 request", "standard", exact=False) == "8x / 14x"
    assert target("load", "nano", exact=True) == "1.7x / 3.3x"
    assert target("watermark, 1 s", "turbo", exact=True) == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["engine", "--models", "turbot"], 2, "turbot is unknown"),
        (["engine", "--precisions", "fp31"], 2, "fp31 is unknown"),
        (["engine", "--only", "nothing"], 2, "nothing is unknown"),
        (["engine", "--batches", "0,1"], 2, "no list of numbers"),
        (["engine", "--model-path", "/nowhere", "--random-weights"], 2, "not allowed with"),
        (["engine", "--model-path", "/nowhere"], 1, "there is no folder /nowhere"),
        (["engine", "--tiny"], 1, "--tiny goes with --random-weights"),
        (["engine", "--plot", "figure.gif"], 1, "does not end with .png"),
        ([], 2, "required"),
    ],
)
def test_errors_say_what_is_wrong(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODEL_PATH", raising=False)
    assert cli.main(arguments) == status
    assert said in capsys.readouterr().err


def test_missing_package_is_reported_before_measuring(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert cli.main(["engine", "--plot", str(tmp_path / "figure.png")]) == 1
    assert "pip install 'chatterbox-speech-server[bench]'" in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_model_that_cannot_be_loaded_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "turbo").mkdir()
    options = ["--precisions", "fp32", "--no-upstream", "--json", str(tmp_path / "bench.json")]
    assert cli.main(["engine", "--model-path", str(tmp_path), *options]) == 0
    (result,) = json.loads((tmp_path / "bench.json").read_text("utf-8"))["models"]
    assert "MODEL_PATH" in result["unavailable"]
    assert "Not measured" in capsys.readouterr().out


def test_missing_torch_names_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert cli.main(["engine", "--quick"]) == 1
    assert "make install-chatterbox" in capsys.readouterr().err
