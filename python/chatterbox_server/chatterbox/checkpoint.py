"""Where the files of a Chatterbox model are: in a folder of the operator's, or in the hub's cache."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..model_runner import Progress
from .hub import command, fetch
from .tensors import CheckpointError

__all__ = ["CheckpointFiles", "locate", "locate_mean_flow"]

_Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFiles:
    """The files of one model."""

    t3: Path
    s3gen: Path
    voice_encoder: Path
    tokenizer: Path
    """The tokeniser's file; for ``turbo`` and ``nano`` the folder of its files."""
    conditionals: Path | None
    """The voice that comes with the model."""
    cangjie: Path | None
    """Multilingual's table that spells Chinese characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The names of a model's files. Where there are several, any will do; the hub is asked for the first."""

    repository: str
    t3: str
    s3gen: _Names
    voice_encoder: _Names
    tokenizer: tuple[_Names, ...]
    """Sets of files that together are the tokeniser."""
    tokenizer_extras: _Names = ()
    conditionals: str = "conds.pt"
    cangjie: str | None = None

    @property
    def required(self) -> tuple[tuple[_Names, ...], ...]:
        """The required files: of each row one complete set."""
        rows = (((self.t3,),), *(tuple((name,) for name in row) for row in (self.s3gen, self.voice_encoder)))
        return (*rows, self.tokenizer)

    @property
    def download(self) -> _Names:
        """The files that are fetched from the hub."""
        extras = (*self.tokenizer_extras, self.conditionals, self.cangjie)
        return (*(name for row in self.required for name in row[0]), *(name for name in extras if name))


_BASE, _TURBO, _NANO = "ResembleAI/chatterbox", "ResembleAI/chatterbox-turbo", "ResembleAI/chatterbox-nano"
_T3 = {
    _BASE: ("t3_cfg.safetensors", "t3_mtl23ls_v2.safetensors", "t3_mtl23ls_v3.safetensors"),
    _TURBO: ("t3_turbo_v1.safetensors",),
    _NANO: ("t3_nano_v1.safetensors",),
}


def _layout(model: str, multilingual_version: str) -> _Layout:
    """The names that upstream's ``tts.py``, ``mtl_tts.py`` and ``tts_turbo.py`` load."""
    if model == "standard":
        return _Layout(
            repository=_BASE,
            t3="t3_cfg.safetensors",
            s3gen=("s3gen.safetensors", "s3gen.pt"),
            voice_encoder=("ve.safetensors", "ve.pt"),
            tokenizer=(("tokenizer.json",),),
        )
    if model == "multilingual":
        return _Layout(
            repository=_BASE,
            t3=f"t3_mtl23ls_{multilingual_version}.safetensors",
            s3gen=("s3gen.pt", "s3gen.safetensors"),
            voice_encoder=("ve.pt", "ve.safetensors"),
            tokenizer=(("grapheme_mtl_merged_expanded_v1.json",),),
            cangjie="Cangjie5_TC.json",
        )
    repository = {"turbo": _TURBO, "nano": _NANO}[model]
    return _Layout(
        repository=repository,
        t3=_T3[repository][0],
        s3gen=("s3gen_meanflow.safetensors",),
        voice_encoder=("ve.safetensors",),
        tokenizer=(("vocab.json", "merges.txt"), ("tokenizer.json",)),
        tokenizer_extras=("added_tokens.json",),
    )


def locate(model: str, *, model_path: Path | None, multilingual_version: str, progress: Progress) -> CheckpointFiles:
    """The files of ``model`` (standard, turbo, multilingual or nano), each of them there.

    ``multilingual_version`` is "v2" or "v3", and tells which of two T3s goes with multilingual's other files.
    With ``model_path`` nothing is ever downloaded. It has a folder for each model, called like it or like its
    repository (``turbo`` or ``chatterbox-turbo``), or is such a folder itself. Raises ``CheckpointError``.
    """
    layout = _layout(model, multilingual_version)
    if model_path is not None:
        folder = _folder(model, layout, model_path)
        return _files(layout, {path.name: path for path in folder.iterdir() if path.is_file()}, folder)
    found = fetch(layout.repository, layout.download, progress)
    return _files(layout, found, found[layout.t3].parent)


def locate_mean_flow(*, model_path: Path | None, progress: Progress) -> Path:
    """The file of turbo's S3Gen, which any model can speak through: all have the same speech tokens and references.

    In the folder of turbo below ``model_path``, of which nothing else need be there, or from the hub. Raises
    ``CheckpointError``.
    """
    layout = _layout("turbo", "")
    (name,) = layout.s3gen
    if model_path is None:
        return fetch(layout.repository, (name,), progress)[name]
    folders = (model_path / "turbo", model_path / layout.repository.partition("/")[2], model_path)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"S3GEN_DECODER: meanflow needs turbo's {name}, which is not in {', '.join(map(str, folders))}. Get it with: "
        f"{command(layout.repository, (name,), folders[0])}; or choose S3GEN_DECODER=auto."
    )


def _files(layout: _Layout, found: dict[str, Path], folder: Path) -> CheckpointFiles:
    t3, s3gen, voice_encoder, tokenizer = (
        next(names for names in row if all(name in found for name in names)) for row in layout.required
    )
    return CheckpointFiles(
        t3=found[t3[0]],
        s3gen=found[s3gen[0]],
        voice_encoder=found[voice_encoder[0]],
        tokenizer=found[tokenizer[0]] if len(layout.tokenizer) == 1 else folder,
        conditionals=found.get(layout.conditionals),
        cangjie=found.get(layout.cangjie) if layout.cangjie else None,
    )


def _folder(model: str, layout: _Layout, root: Path) -> Path:
    """The folder below ``root`` that has all of the model's files."""
    if not root.is_dir():
        raise CheckpointError(f"{model}: there is no folder {root}; set MODEL_PATH to the folder of the weights.")
    looked = []
    for folder in (root / model, root / layout.repository.partition("/")[2], root):
        if not folder.is_dir():
            looked.append(f"{folder} (there is no such folder)")
            continue
        names = {path.name for path in folder.iterdir() if path.is_file()}
        missing = _missing(layout, names)
        if not missing:
            _check_unmixed(model, layout, folder, names)
            return folder
        looked.append(f"{folder} (without {', '.join(missing)})")
    raise CheckpointError(
        f"{model}: MODEL_PATH has not all of its files. Looked in {'; '.join(looked)}. Get them with: "
        f"{command(layout.repository, layout.download, root / model)}; or unset MODEL_PATH to have them downloaded."
    )


def _missing(layout: _Layout, names: Collection[str]) -> list[str]:
    """The model's required files that ``names`` lacks."""
    return [
        " or ".join(" with ".join(alternative) for alternative in row)
        for row in layout.required
        if not any(set(alternative) <= set(names) for alternative in row)
    ]


def _check_unmixed(model: str, layout: _Layout, folder: Path, names: Collection[str]) -> None:
    """Files of two repositories have equal names and different contents, so one folder can hold but one of each."""
    strangers = [name for repository, t3 in _T3.items() if repository != layout.repository for name in t3]
    if mixed := [name for name in strangers if name in names]:
        raise CheckpointError(
            f"{model}: {folder} also has {', '.join(mixed)}, of another repository, and it cannot be told to which of "
            f"them {layout.conditionals} and the other files belong; give each model a folder of its own name."
        )
