"""Files of a model are found in every layout of a folder, and what is missing is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from chatterbox_server.chatterbox.checkpoint import CheckpointFiles, locate
from chatterbox_server.chatterbox.tensors import CheckpointError

FILES = {
    "standard": ("t3_cfg.safetensors", "s3gen.safetensors", "ve.safetensors", "tokenizer.json", "conds.pt"),
    "multilingual": (
        "t3_mtl23ls_v2.safetensors",
        "s3gen.pt",
        "ve.pt",
        "grapheme_mtl_merged_expanded_v1.json",
        "conds.pt",
        "Cangjie5_TC.json",
    ),
    "turbo": (
        "t3_turbo_v1.safetensors",
        "s3gen_meanflow.safetensors",
        "ve.safetensors",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "conds.pt",
    ),
}
FILES["nano"] = ("t3_nano_v1.safetensors", *FILES["turbo"][1:])
REPOSITORY = {"standard": "chatterbox", "multilingual": "chatterbox", "turbo": "chatterbox-turbo"}
REPOSITORY["nano"] = "chatterbox-nano"


def fill(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def find(model: str, root: Path, version: str = "v2") -> CheckpointFiles:
    def no_download(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    return locate(model, model_path=root, multilingual_version=version, progress=no_download)


@pytest.mark.parametrize("model", FILES)
@pytest.mark.parametrize("below", ["{model}", "{repository}", "."])
def test_checkpoint_is_found_in_every_layout(tmp_path: Path, model: str, below: str) -> None:
    folder = fill(tmp_path / below.format(model=model, repository=REPOSITORY[model]), FILES[model])
    found = find(model, tmp_path)
    t3, s3gen, voice_encoder, tokenizer, *_ = FILES[model]
    assert found.t3 == folder / t3
    assert found.s3gen == folder / s3gen
    assert found.voice_encoder == folder / voice_encoder
    assert found.tokenizer == (folder if model in ("turbo", "nano") else folder / tokenizer)
    assert found.conditionals == folder / "conds.pt"
    assert found.cangjie == (folder / "Cangjie5_TC.json" if model == "multilingual" else None)


@pytest.mark.parametrize("model", FILES)
def test_upstreams_own_checkpoint_is_found(checkpoints: Callable[[str], Path], model: str) -> None:
    folder = checkpoints(model)
    for root in (folder, folder.parent):
        found = find(model, root)
        assert found.t3.parent == folder
        assert all(path.exists() for path in (found.t3, found.s3gen, found.voice_encoder, found.tokenizer))


def test_standard_and_multilingual_lie_together(tmp_path: Path) -> None:
    fill(tmp_path, (*FILES["standard"], *FILES["multilingual"], "t3_mtl23ls_v3.safetensors"))
    assert find("standard", tmp_path).t3.name == "t3_cfg.safetensors"
    assert find("standard", tmp_path).s3gen.name == "s3gen.safetensors"
    assert find("multilingual", tmp_path).t3.name == "t3_mtl23ls_v2.safetensors"
    assert find("multilingual", tmp_path).s3gen.name == "s3gen.pt"
    assert find("multilingual", tmp_path, "v3").t3.name == "t3_mtl23ls_v3.safetensors"


def test_multilingual_takes_standards_shared_files(tmp_path: Path) -> None:
    names = [name for name in FILES["multilingual"] if not name.endswith(".pt")]
    fill(tmp_path, (*names, "s3gen.safetensors", "ve.safetensors"))
    found = find("multilingual", tmp_path)
    assert found.s3gen.name == "s3gen.safetensors"
    assert found.voice_encoder.name == "ve.safetensors"


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    fill(tmp_path, set(FILES["multilingual"]) - {"conds.pt", "Cangjie5_TC.json"})
    found = find("multilingual", tmp_path)
    assert found.conditionals is None
    assert found.cangjie is None


def test_turbos_tokeniser_may_be_one_file(tmp_path: Path) -> None:
    fill(tmp_path, (*(name for name in FILES["turbo"] if name not in ("vocab.json", "merges.txt")), "tokenizer.json"))
    assert find("turbo", tmp_path).tokenizer == tmp_path


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model, names in FILES.items() for name in names[: 5 if model in ("turbo", "nano") else 4]],
)
def test_each_missing_file_is_named_with_way_to_get_it(tmp_path: Path, model: str, name: str) -> None:
    fill(tmp_path / model, set(FILES[model]) - {name})
    with pytest.raises(CheckpointError) as refused:
        find(model, tmp_path)
    said = str(refused.value)
    assert name in said.partition("Get them")[0]
    assert f"{tmp_path / model} (without " in said
    assert f"hf download ResembleAI/{REPOSITORY[model]} " in said
    assert f"--local-dir {tmp_path / model}" in said
    assert "unset MODEL_PATH" in said


def test_missing_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"turbo: .*{tmp_path}/turbo \(there is no such folder\)"):
        find("turbo", tmp_path)
    with pytest.raises(CheckpointError, match=r"turbo: there is no folder .*; set MODEL_PATH"):
        find("turbo", tmp_path / "nowhere")


def test_incomplete_model_does_not_hide_complete_one(tmp_path: Path) -> None:
    fill(tmp_path / "turbo", ["conds.pt"])
    folder = fill(tmp_path / "chatterbox-turbo", FILES["turbo"])
    assert find("turbo", tmp_path).t3.parent == folder


def test_files_of_two_repositories_in_one_folder_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, (*FILES["turbo"], *FILES["standard"]))
    for model, other in (("turbo", "t3_cfg.safetensors"), ("standard", "t3_turbo_v1.safetensors")):
        with pytest.raises(CheckpointError, match=rf"{model}: .* also has {other}, of another repository"):
            find(model, tmp_path)


def test_hub_cache_links_count_as_files(tmp_path: Path) -> None:
    real = fill(tmp_path / "blobs", FILES["standard"])
    (tmp_path / "standard").mkdir()
    for name in FILES["standard"]:
        (tmp_path / "standard" / name).symlink_to(real / name)
    assert find("standard", tmp_path).t3.read_text(encoding="utf-8") == "t3_cfg.safetensors"
    shutil.rmtree(real)
    with pytest.raises(CheckpointError, match="without t3_cfg"):
        find("standard", tmp_path)
