from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatterbox_server.chatterbox.tensors import CheckpointError
from chatterbox_server.chatterbox.text.encoders import EnglishEncoder, MultilingualEncoder, SubwordEncoder
from chatterbox_server.chatterbox.text.languages import LANGUAGES

TEXTS = (
    "hello there, the thing is on",
    "Wait... what? No — really; yes: “quite” so - ok",
    "  many   spaces\n and lines ",
    "…",
    "ends with a dash-",
    "it’s ‘fine’ , really…",
    "[START] of [STOP] and [SPACE]",
    "x",
    "[laugh] Ha! [clear throat] well [nosuchtag]",
    "emoji 😀 and ünïcode",
)
FOREIGN = {
    "zh": "你好，中文 and latin。",
    "ja": "今日は良い天気ですね。カタカナ",
    "ko": "안녕하세요 세계",
    "ru": "Привет, как дела?",
    "he": "שלום עולם",
    "ar": "مرحبا بالعالم",
    "el": "Γειά σου Κόσμε",
    "hi": "नमस्ते दुनिया",
    "fr": "Déjà vu, ça va ?",
}
Folder = Callable[[str], Path]
Upstream = Callable[[str], Any]


@pytest.fixture
def multilingual(checkpoints: Folder) -> MultilingualEncoder:
    folder = checkpoints("multilingual")
    return MultilingualEncoder(folder / "grapheme_mtl_merged_expanded_v1.json", folder / "Cangjie5_TC.json")


@pytest.mark.parametrize("text", TEXTS)
def test_english_ids_equal_upstream(checkpoints: Folder, upstream: Upstream, text: str) -> None:
    from chatterbox.tts import punc_norm

    ids = upstream("standard").tokenizer.encode(punc_norm(text))
    assert EnglishEncoder(checkpoints("standard") / "tokenizer.json").encode(text, None) == (255, *ids, 0)


@pytest.mark.parametrize("text", TEXTS)
def test_subword_ids_equal_upstream(checkpoints: Folder, upstream: Upstream, text: str) -> None:
    from chatterbox.tts_turbo import punc_norm

    ids = upstream("turbo").tokenizer(punc_norm(text)).input_ids
    assert SubwordEncoder(checkpoints("turbo")).encode(text, None) == tuple(ids)


@pytest.mark.parametrize("language", LANGUAGES)
def test_multilingual_ids_equal_upstream(multilingual: MultilingualEncoder, upstream: Upstream, language: str) -> None:
    from chatterbox.mtl_tts import punc_norm

    tokenizer = upstream("multilingual").tokenizer
    # Upstream asks the hub for the table, which the checkpoint holds too.
    rows = ("你\tonf", "好\tvnd", "中\tl", "文\tyk")
    for character, code in (row.split("\t") for row in rows):
        tokenizer.cangjie_converter.word2cj[character] = code
        tokenizer.cangjie_converter.cj2word[code] = [character]
    for text in (*TEXTS, FOREIGN.get(language, "Plain.")):
        ids = tokenizer.encode(punc_norm(text), language_id=language)
        assert multilingual.encode(text, language) == (255, *ids, 0), text


def test_every_upstream_language_is_known() -> None:
    from chatterbox.mtl_tts import SUPPORTED_LANGUAGES

    assert sorted(LANGUAGES) == sorted(SUPPORTED_LANGUAGES)


def test_characters_that_share_code_are_numbered(checkpoints: Folder, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text('["日\\ta", "曰\\ta"]', encoding="utf-8")
    encoder = MultilingualEncoder(checkpoints("multilingual") / "grapheme_mtl_merged_expanded_v1.json", table)
    first, second = encoder.encode("日", "zh"), encoder.encode("曰", "zh")
    assert len(second) == len(first) + 1


def test_tags_are_listed_and_read_as_one_token(checkpoints: Folder) -> None:
    encoder = SubwordEncoder(checkpoints("turbo"))
    assert {"[laugh]", "[clear throat]"} <= set(encoder.tags)
    assert len(encoder.encode("[laugh].", None)) == 2


def test_tokeniser_without_tokenizer_json_gives_same_ids(checkpoints: Folder, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    whole = checkpoints("turbo")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(whole / name, tmp_path / name)
    added = Tokenizer.from_file(str(whole / "tokenizer.json")).get_added_tokens_decoder()
    entries = ", ".join(f'"{token.content}": {number}' for number, token in added.items())
    (tmp_path / "added_tokens.json").write_text(f"{{{entries}}}")
    parts, one = SubwordEncoder(tmp_path), SubwordEncoder(whole)
    assert [parts.encode(text, None) for text in TEXTS] == [one.encode(text, None) for text in TEXTS]


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'])
def test_damaged_tokeniser_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        EnglishEncoder(path)
