"""Tokenizers that llama.cpp has, and those that are refused, each for the part it lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kft.errors import UsageError
from kft.export.gguf_tokenizer import TokenType, Vocabulary, read_vocabulary

WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
WORDS_REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
SPACES = [{"type": "Prepend", "prepend": "▁"},
          {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]  # fmt: skip


def split(pattern: str) -> dict[str, Any]:
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                   "use_regex": False}  # fmt: skip
    by = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [by, bytes_alone]}


def read(folder: Path, change: Callable[[dict[str, Any]], Any], rows: int = 600) -> Vocabulary:
    """The vocabulary of a tokenizer whose parts were changed."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    parts = json.loads(AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str())
    parts = change(parts) or parts
    return read_vocabulary(
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
        ),
        rows,
    )


def test_a_byte_level_vocabulary(tiny_tokenizer: Path) -> None:
    found = read(tiny_tokenizer, unchanged)
    assert (found.model, found.pre, found.adds_bos, found.composes) == (
        "gpt2", "gpt-2", False, False,
    )  # fmt: skip
    assert found.special == {"bos": 0, "eos": 1, "unk": 2}
    assert len(found.tokens) == len(found.types) == 600
    assert found.tokens[500] == "[PAD500]"
    assert found.types[0] == found.types[3] == TokenType.CONTROL
    assert found.types[4] == found.types[499] == TokenType.NORMAL
    assert found.types[500] == found.types[599] == TokenType.UNUSED
    assert all(len(merge.split(" ")) == 2 for merge in found.merges)
    assert len(found.merges) == 500 - 256 - 4


def unchanged(_: dict[str, Any]) -> None:
    pass


def looks_up(parts: dict[str, Any]) -> None:
    parts["pre_tokenizer"] = split(WORDS + "{1,3}" + WORDS_REST)
    parts["model"]["ignore_merges"] = True


@pytest.mark.parametrize(
    ("change", "pre"),
    [
        (lambda parts: parts.update(pre_tokenizer=split(WORDS + WORDS_REST)), "qwen2"),
        (lambda parts: parts.update(pre_tokenizer=split(WORDS + "{1,3}" + WORDS_REST)),
         "smaug-bpe"),
        (looks_up, "llama-bpe"),
        (lambda parts: parts.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, parts["pre_tokenizer"]]}), "starcoder"),
    ],
)  # fmt: skip
def test_what_cuts_words_has_its_name(change: Any, pre: str, tiny_tokenizer: Path) -> None:
    assert read(tiny_tokenizer, change).pre == pre


def test_a_start_token_and_nfc_are_told(tiny_tokenizer: Path) -> None:
    def change(parts: dict[str, Any]) -> None:
        parts["normalizer"] = {"type": "NFC"}
        start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
        text = {"Sequence": {"id": "A", "type_id": 0}}
        named = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
        single, pair = [start, text], [start, text, text]
        parts["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair,
                                   "special_tokens": named}  # fmt: skip

    found = read(tiny_tokenizer, change)
    assert found.adds_bos
    assert found.composes


def ends(parts: dict[str, Any]) -> None:
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    named = {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
    parts["post_processor"] = {"type": "TemplateProcessing", "single": [text, end],
                               "pair": [text, text, end], "special_tokens": named}  # fmt: skip


def less(parts: dict[str, Any]) -> None:
    number = parts["model"]["vocab"].pop("ÿ")
    parts["model"]["vocab"]["other"] = number


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: parts.update(normalizer={"type": "NFKC"}), '"type": "NFKC"'),
        (lambda parts: parts.update(normalizer={"type": "Lowercase"}), "it changes texts first"),
        (lambda parts: parts["pre_tokenizer"].update(add_prefix_space=True), "it cuts words by"),
        (lambda parts: parts.update(pre_tokenizer={"type": "Whitespace"}), "`ignore_merges`"),
        (lambda parts: parts.update(pre_tokenizer=None), "it cuts words by nothing"),
        (lambda parts: parts.update(pre_tokenizer=split("\\p{L}+")), "it cuts words by"),
        (lambda parts: parts["model"].update(ignore_merges=True), "with `ignore_merges`"),
        (lambda parts: parts["model"].update(dropout=0.1), "`dropout: 0.1`"),
        (lambda parts: parts["model"].update(byte_fallback=True), "it makes pieces of spaces by"),
        (lambda parts: parts["added_tokens"][0].update(lstrip=True), "`<s>` has `lstrip`"),
        (less, "1 of the 256 bytes have no token"),
        (ends, "it makes ["),
    ],
)
def test_what_llama_cpp_lacks(change: Any, said: str, tiny_tokenizer: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tiny_tokenizer, change)
    assert "llama.cpp can't express this tokenizer" in str(caught.value)
    assert said in str(caught.value)


def test_more_tokens_than_rows(tiny_tokenizer: Path) -> None:
    with pytest.raises(UsageError, match="can't express") as caught:
        read(tiny_tokenizer, unchanged, rows=499)
    assert "ids up to 499" in str(caught.value)


def test_wordpieces(tiny_wordpiece: Path) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(UsageError) as caught:
        read_vocabulary(AutoTokenizer.from_pretrained(tiny_wordpiece), 500)
    assert "its model is `WordPiece`" in str(caught.value)


def sentencepiece(parts: dict[str, Any], normalizers: list[Any] | None = None) -> dict[str, Any]:
    """A BPE of characters over `▁하늘 하늘이` with bytes, as sentencepiece models become."""
    pieces = ["<s>", "</s>", "<unk>", *(f"<0x{number:02X}>" for number in range(256))]
    pieces += ["▁", "하", "늘", "이", "하늘", "▁하늘", "하늘이", "▁하늘이"]
    merges = [["하", "늘"], ["▁", "하늘"], ["하늘", "이"], ["▁하늘", "이"], ["▁", "하늘이"]]
    special = [
        {"id": at, "content": pieces[at], "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for at in range(3)
    ]
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "byte_fallback": True,
        "merges": merges,
        "vocab": {piece: number for number, piece in enumerate(pieces)},
    }
    steps = SPACES if normalizers is None else normalizers
    return {**parts, "added_tokens": special, "model": model, "pre_tokenizer": None,
            "normalizer": {"type": "Sequence", "normalizers": steps}}  # fmt: skip


def test_a_sentencepiece_vocabulary(tiny_tokenizer: Path) -> None:
    found = read(tiny_tokenizer, sentencepiece, rows=267)
    assert (found.model, found.pre, found.adds_space) == ("llama", "default", True)
    assert list(found.scores[-9:]) == [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0]
    assert found.types[2] == TokenType.UNKNOWN
    assert found.types[3] == found.types[258] == TokenType.BYTE
    bare = read(tiny_tokenizer, lambda parts: sentencepiece(parts, SPACES[1:]), rows=267)
    assert not bare.adds_space


def test_sentencepieces_that_llama_cpp_would_cut_otherwise(tiny_tokenizer: Path) -> None:
    def metaspace(parts: dict[str, Any]) -> dict[str, Any]:
        step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        return {**sentencepiece(parts), "normalizer": None, "pre_tokenizer": step}

    def shuffled(parts: dict[str, Any]) -> dict[str, Any]:
        parts = sentencepiece(parts)
        merges = parts["model"]["merges"]
        parts["model"]["merges"] = [merges[3], *merges[:3], merges[4]]
        return parts

    def without(parts: dict[str, Any]) -> dict[str, Any]:
        parts = sentencepiece(parts)
        parts["model"]["merges"].pop()
        return parts

    for change, said in (
        (metaspace, 'pieces of spaces by `{"type": "Metaspace"'),
        (shuffled, "an order that no scores"),
        (without, "an order that no scores"),
    ):
        with pytest.raises(UsageError) as caught:
            read(tiny_tokenizer, change, rows=267)
        assert said in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kogpt2-v1", "NFKC"),
        ("kcbert-base", "its model is `WordPiece`"),
        ("kobert-misloaded", "its model is `Unigram`"),
    ],
)
def test_published_vocabularies(name: str, said: str, real_data: Path) -> None:
    from kft.models.tokenizer import load_tokenizer
    from kft.recipe.schema import ModelSection

    tokenizer = load_tokenizer(ModelSection(name_or_path=str(real_data / "checkpoints" / name)))
    with pytest.raises(UsageError) as caught:
        read_vocabulary(tokenizer, 60_000)
    assert said in str(caught.value)
