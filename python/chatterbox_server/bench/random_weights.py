"""Checkpoints in upstream's exact file format with random weights, made by upstream's own classes.

They cost what released ones do and say nothing, so that anybody can measure and test without a download.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from . import upstream_package

__all__ = ["ensure", "t3_config", "write"]

SPECIAL = ("[STOP]", "[UNK]", "[SPACE]", "[PAD]", "[SEP]", "[CLS]", "[MASK]")
START_ID = 255
"""Upstream's start-of-text id."""
ASCII = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!'(),-.:;?\"/*&%$#@+=<>_~^`|\\{}[]"
SCRIPTS = (
    (0xC0, 0x180),
    (0x300, 0x460),
    (0x591, 0x5F4),
    (0x621, 0x660),
    (0x900, 0x980),
    (0x1100, 0x1200),
    (0x3041, 0x3100),
)
MERGES = (("t", "h"), ("th", "e"), ("i", "n"), ("a", "n"), ("e", "r"), ("o", "n"), ("an", "d"), ("in", "g"), ("o", "u"))
TAGS = ("[laugh]", "[chuckle]", "[cough]", "[sigh]", "[gasp]", "[groan]", "[sniff]", "[clear throat]", "[shush]")


def ensure(kind: str, root: Path, *, full: bool = True) -> Path:
    """The folder ``root / kind`` with a checkpoint of ``kind``, which is written unless it is there."""
    folder = root / kind
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        # Under another name until it is complete: an interrupted run leaves no partial file.
        with tempfile.TemporaryDirectory(prefix=f".{kind}-", dir=root) as unfinished:
            write(kind, Path(unfinished, kind), full=full)
            try:
                os.rename(Path(unfinished, kind), folder)
            except OSError:
                # Somebody else was faster.
                shutil.rmtree(Path(unfinished, kind))
    return folder


def write(kind: str, folder: Path, *, full: bool = False) -> Path:
    """Write a checkpoint of ``kind`` into ``folder`` and return it."""
    if full:
        upstream_package.add_nano()
    else:
        upstream_package.shrink()
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        _write_weights(kind, folder, full=full)
    if kind == "multilingual":
        _write_graphemes(folder / "grapheme_mtl_merged_expanded_v1.json", 2454, multilingual=True)
        rows = ["你\tonf", "好\tvnd", "中\tl", "文\tyk"]
        (folder / "Cangjie5_TC.json").write_text(json.dumps(rows, ensure_ascii=False))
    elif kind == "standard":
        _write_graphemes(folder / "tokenizer.json", 704, multilingual=False)
    else:
        _write_gpt2_tokenizer(folder)
    # A short reference in the tiny ones: it is rendered again with every slice.
    _write_builtin_voice(
        folder / "conds.pt", t3_tokens=375 if kind in ("turbo", "nano") else 150, s3_tokens=250 if full else 50
    )
    return folder


def _write_weights(kind: str, folder: Path, *, full: bool) -> None:
    from chatterbox.models.s3gen import S3Gen
    from chatterbox.models.t3 import T3
    from chatterbox.models.voice_encoder import VoiceEncoder
    from safetensors.torch import save_file

    def save(module: Any, name: str) -> None:
        state = {key: value.contiguous().clone() for key, value in module.state_dict().items()}
        if name.endswith(".pt"):
            torch.save(state, folder / name)
        else:
            save_file(state, folder / name)

    voice_encoder, t3_name, s3gen = {
        "multilingual": ("ve.pt", "t3_mtl23ls_v2.safetensors", "s3gen.pt"),
        "standard": ("ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors"),
    }.get(kind, ("ve.safetensors", f"t3_{kind}_v1.safetensors", "s3gen_meanflow.safetensors"))
    t3 = T3(t3_config(kind))
    if not full:
        _sensitise(t3)
    save(VoiceEncoder(), voice_encoder)
    save(t3, t3_name)
    # Two of them at once are some GB.
    del t3
    save(S3Gen(meanflow=kind in ("turbo", "nano")), s3gen)


def _sensitise(t3: Any) -> None:
    """Enlarge the weights of an untrained T3 that are not drawn from a wide range.

    As they come, neither the order of the text nor its positions nor the emotion moves a logit by more than rounding
    does, and a test would see nothing of them.
    """
    with torch.no_grad():
        for name, weight in t3.named_parameters():
            layer = name.startswith(("tfmr.layers.", "tfmr.h.")) and name.endswith("weight")
            if "pos_emb" in name or name.endswith("wpe.weight"):
                weight.mul_(25.0)
            elif "emotion" in name or (layer and "norm" not in name and "ln_" not in name):
                weight.mul_(8.0)


def t3_config(kind: str) -> Any:
    """The configuration of upstream's T3 of ``kind``."""
    from chatterbox.models.t3.modules.t3_config import T3Config

    if kind == "multilingual":
        return T3Config.multilingual()
    if kind == "standard":
        return T3Config.english_only()
    # The values that upstream's turbo loader sets by hand.
    config = T3Config(text_tokens_dict_size=50276)
    config.llama_config_name = "GPT2_medium" if kind == "turbo" else "GPT2_small"
    config.speech_tokens_dict_size = 6563
    config.input_pos_emb = None
    config.speech_cond_prompt_len = 375
    config.use_perceiver_resampler = False
    config.emotion_adv = False
    return config


def _write_graphemes(path: Path, size: int, *, multilingual: bool) -> None:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    tail: list[str] = []
    characters: Iterable[str] = ASCII
    if multilingual:
        from chatterbox.mtl_tts import SUPPORTED_LANGUAGES

        tail = [f"[{language}]" for language in SUPPORTED_LANGUAGES]
        tail += [f"[cj_{character}]" for character in "abcdefghijklmnopqrstuvwxyz.0123456789"]
        foreign = (chr(code) for first, end in SCRIPTS for code in range(first, end))
        assigned = (character for character in foreign if unicodedata.category(character) != "Cn")
        characters = dict.fromkeys([*ASCII, *"¿¡。，、？！", *assigned])
    vocabulary: dict[str, int] = {}

    def add(token: str) -> None:
        if len(vocabulary) == START_ID:
            vocabulary["[START]"] = START_ID
        vocabulary.setdefault(token, len(vocabulary))

    for token in (*SPECIAL, *characters, *(first + second for first, second in MERGES)):
        add(token)
    while len(vocabulary) < size - len(tail):
        add(f"<filler{len(vocabulary)}>")
    for token in tail:
        add(token)
    assert len(vocabulary) == size, len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [*SPECIAL, "[START]", *tail]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(path))


def _write_gpt2_tokenizer(folder: Path) -> None:
    """The files of GPT-2's tokenizer, with made-up merges up to its 50257 entries and turbo's 19 added tags."""
    from transformers import GPT2TokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = list(bytes_to_unicode().values())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    first = [("t", "h"), ("Ġ", "t"), ("Ġt", "he"), ("h", "e"), ("i", "n"), ("Ġ", "a")]
    for left, right in [*first, *((left, right) for left in alphabet for right in alphabet)]:
        if len(vocabulary) == 50256:
            break
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
    vocabulary["<|endoftext|>"] = len(vocabulary)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines)
    tokenizer = GPT2TokenizerFast(vocab=vocabulary, merges=merges)
    tokenizer.add_tokens([*TAGS, *(f"[tag{index}]" for index in range(19 - len(TAGS)))])
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == 50276, len(tokenizer)


def _write_builtin_voice(path: Path, *, t3_tokens: int, s3_tokens: int) -> None:
    generator = torch.Generator().manual_seed(1)
    speaker = torch.rand(1, 256, generator=generator)
    t3 = {
        "speaker_emb": speaker / speaker.norm(),
        "clap_emb": None,
        "cond_prompt_speech_tokens": torch.randint(0, 6561, (1, t3_tokens), generator=generator),
        "cond_prompt_speech_emb": None,
        "emotion_adv": 0.5 * torch.ones(1, 1, 1),
    }
    gen = {
        "prompt_token": torch.randint(0, 6561, (1, s3_tokens), generator=generator),
        "prompt_token_len": torch.tensor([s3_tokens]),
        "prompt_feat": torch.randn(1, 2 * s3_tokens, 80, generator=generator) - 5,
        "prompt_feat_len": None,
        "embedding": torch.randn(1, 192, generator=generator),
    }
    torch.save({"t3": t3, "gen": gen}, path)
