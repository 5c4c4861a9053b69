from __future__ import annotations

import pytest
from chatterbox_server._core import LoadSettings, S3GenSettings
from chatterbox_server.chatterbox.model_spec import Choice, SettingError, check_s3gen, choose_backend
from chatterbox_server.loading import LoadError, load


@pytest.mark.parametrize(
    ("backend", "dtype", "device", "chosen"),
    [
        ("auto", "auto", "cpu", Choice("native", "fp32")),
        ("auto", "q8", "cpu", Choice("native", "int8")),
        ("auto", "fp16", "cpu", Choice("torch", "fp16")),
        ("auto", "auto", "cuda", Choice("torch", "bf16")),
        ("torch", "auto", "cpu", Choice("torch", "fp32")),
        ("torch", "auto", "cuda", Choice("torch", "bf16")),
        ("torch", "fp16", "cuda", Choice("torch", "fp16")),
        ("onnx", "auto", "cpu", Choice("onnx", "fp32")),
        ("onnx", "auto", "cuda", Choice("onnx", "fp16")),
        ("onnx", "q4f16", "cuda", Choice("onnx", "q4f16")),
        ("onnx", "int4", "cpu", Choice("onnx", "q4")),
        ("onnx", "q8", "cpu", Choice("onnx", "q8")),
        ("native", "auto", "cpu", Choice("native", "fp32")),
        ("native", "q8", "cpu", Choice("native", "int8")),
        ("native", "int4", "cpu", Choice("native", "int4")),
    ],
)
def test_precision_aliases(backend: str, dtype: str, device: str, chosen: Choice) -> None:
    assert choose_backend(backend, dtype, models=["turbo"], device=device) == chosen


@pytest.mark.parametrize(
    ("backend", "dtype", "device", "models", "said"),
    [
        ("torch", "int8", "cpu", ["turbo"], "MODEL_DTYPE: BACKEND=torch has .* or BACKEND=native or onnx"),
        ("onnx", "bf16", "cpu", ["turbo"], "MODEL_DTYPE: BACKEND=onnx has .* or BACKEND=native or torch"),
        ("native", "q4f16", "cpu", ["turbo"], "MODEL_DTYPE: BACKEND=native has .* or BACKEND=onnx"),
        ("native", "auto", "cuda", ["turbo"], "BACKEND: native computes on the CPU"),
        ("onnx", "auto", "cpu", ["turbo", "standard"], "BACKEND: onnx speaks turbo and nano alone, .* standard"),
    ],
)
def test_incompatible_settings_are_named(backend: str, dtype: str, device: str, models: list[str], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        choose_backend(backend, dtype, models=models, device=device)


@pytest.mark.parametrize(
    ("options", "backend", "device", "said"),
    [
        (S3GenSettings(steps=4), "onnx", "cpu", r"S3GEN_\*: the graphs"),
        (S3GenSettings(decoder="meanflow", steps=4), "native", "cpu", "S3GEN_STEPS: a mean-flow decoder"),
        (S3GenSettings(dtype="int8"), "torch", "cuda", "S3GEN_DTYPE: int8 is computed by BACKEND=native"),
        (S3GenSettings(dtype="bf16"), "native", "cpu", "S3GEN_DTYPE: bf16 is for BACKEND=torch on CUDA"),
    ],
)
def test_unmet_s3gen_options_are_named(options: S3GenSettings, backend: str, device: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        check_s3gen(options, backend, device)


def test_s3gen_options_are_accepted() -> None:
    check_s3gen(S3GenSettings(), "onnx", "cuda")
    check_s3gen(S3GenSettings(dtype="int8", decoder="meanflow", prompt_seconds=3.0), "native", "cpu")
    check_s3gen(S3GenSettings(dtype="bf16"), "torch", "cuda")


def test_unsupported_onnx_device_is_named() -> None:
    settings = LoadSettings(models=["turbo"], backend="onnx", device="mps")
    with pytest.raises(LoadError, match="DEVICE: mps is not available"):
        load(settings)
