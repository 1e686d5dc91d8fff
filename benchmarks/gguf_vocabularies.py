"""Vocabularies that are asked for in llama.cpp: made for it, and as they were published."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kft.models.tokenizer import load_tokenizer
from kft.recipe.schema import ModelSection

CHECKPOINT = "data/checkpoints/ko-gpt-mini"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
_WORDS += r"|\s*[\r\n]+|\s+(?!\S)|\s+"

Named = tuple[str, Callable[[], Any]]


def made_vocabularies(given: Sequence[str]) -> Iterator[Named]:
    """ko-gpt-mini's pieces under other pre-tokenizers, and sentencepiece models of the texts."""
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cut = {**plain, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    whole = {**plain, "use_regex": False}
    yield (
        "`ko-gpt-mini` (as GPT-2 cuts words; NFC)",
        partial(AutoTokenizer.from_pretrained, CHECKPOINT),
    )
    yield "its pieces without NFC", partial(_cut_by, [cut], {"normalizer": None})
    yield (
        "its pieces, digits one by one, then as GPT-2's",
        partial(_cut_by, [digits, cut]),
    )
    yield "its pieces, words cut as Qwen2's", partial(_cut_by, [_split(""), whole])
    yield (
        "its pieces, words cut as Llama 3's",
        partial(_cut_by, [_split("{1,3}"), whole], {}, {"ignore_merges": True}),
    )
    yield (
        "its pieces, the same without `ignore_merges`",
        partial(_cut_by, [_split("{1,3}"), whole]),
    )
    yield (
        "sentencepiece BPE with bytes, spaces as Llama 2's were first saved",
        partial(_pieces, given, "bpe"),
    )
    yield "the same, as transformers 5 makes a Llama tokenizer", partial(_metaspace, given)
    yield "sentencepiece unigram with bytes", partial(_pieces, given, "unigram")


def published_vocabularies() -> Iterator[Named]:
    """Those in the folder of real data, if there is one."""
    folder = Path(os.environ.get("KFT_TEST_DATA", "../shared")) / "checkpoints"
    for one in sorted(folder.iterdir()) if folder.is_dir() else []:
        if one.is_dir():
            yield f"`{one.name}`", partial(load_tokenizer, ModelSection(name_or_path=str(one)))


def _split(digits: str) -> dict[str, Any]:
    pattern = {"Regex": _WORDS % digits}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _cut_by(
    steps: Sequence[Any], changes: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> Any:
    parts = json.loads(Path(CHECKPOINT, "tokenizer.json").read_text(encoding="utf-8"))
    parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(steps)}
    parts.update(changes or {})
    parts["model"].update(model or {})
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **SPECIAL
    )


def _trained(given: Sequence[str], kind: str) -> list[tuple[str, float]]:
    """Pieces and scores of a sentencepiece model of the texts."""
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(given), model_prefix=f"{folder}/m", vocab_size=3000,
            model_type=kind, byte_fallback=True, character_coverage=0.98,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            add_dummy_prefix=True, minloglevel=2, unk_id=0, bos_id=1, eos_id=2, pad_id=3,
        )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
    size = range(model.get_piece_size())
    return [(model.id_to_piece(number), model.get_score(number)) for number in size]


def _pieces(given: Sequence[str], kind: str) -> Any:
    pieces = _trained(given, kind)
    named = [piece for piece, _ in pieces[:4]]
    added = [
        {"id": number, "content": piece, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for number, piece in enumerate(named)
    ]
    vocabulary = {piece: number for number, (piece, _) in enumerate(pieces)}
    model: dict[str, Any] = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True}
    if kind == "bpe":
        model = {
            "type": "BPE", "vocab": vocabulary, "merges": _merges(pieces, vocabulary),
            "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
        }  # fmt: skip
    start = [{"SpecialToken": {"id": "<s>", "type_id": 0}}]
    first, second = ([{"Sequence": {"id": name, "type_id": 0}}] for name in "AB")
    parts = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "post_processor": {
            "type": "TemplateProcessing", "single": start + first, "pair": start + first + second,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "model": model,
    }  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **SPECIAL
    )


def _merges(pieces: Sequence[tuple[str, float]], vocabulary: dict[str, int]) -> list[list[str]]:
    """All ways to cut each piece in two others, the piece with the highest score first."""
    found = []
    for number, (piece, score) in list(enumerate(pieces))[4 + 256 :]:
        for at in range(1, len(piece)):
            if piece[:at] in vocabulary and piece[at:] in vocabulary:
                found.append((-score, number, at, [piece[:at], piece[at:]]))
    return [merge for *_, merge in sorted(found)]


def _metaspace(given: Sequence[str]) -> Any:
    tokenizer = _pieces(given, "bpe")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["normalizer"] = None
    parts["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False,
    }  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **SPECIAL
    )
