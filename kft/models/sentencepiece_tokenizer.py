"""A BERT's tokenizer over a sentencepiece model: ``[CLS] x [SEP]``, as KoBERT was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from kft.models.sentencepiece_file import SentencePieceModel, read_sentencepiece, rebuild
from kft.models.tokenizer_files import TokenizerFiles

_NAMES: Mapping[str, tuple[str, ...]] = {
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]",),
    "bos_token": ("[BOS]",),
    "eos_token": ("[EOS]",),
}
"""Role -> pieces that play it; the rest of KoBERT's roles stand in its settings."""


def bert_from_sentencepiece(files: TokenizerFiles) -> Any | None:
    """The tokenizer that puts ``[CLS]`` in front of a text and ``[SEP]`` behind it.

    Pairs have ``token_type_ids`` 0 and 1, padding is on the right.

    Returns:
        ``None`` when the pieces have no ``[CLS]`` and ``[SEP]``, or a ``vocab.txt`` beside the
        model numbers them otherwise.

    Raises:
        ModelError: If the model's file can't be read.
    """
    if files.sentencepiece is None:
        return None
    model = read_sentencepiece(files.sentencepiece)
    ids = {piece: index for index, (piece, _, _) in enumerate(model.pieces)}
    if "[CLS]" not in ids or "[SEP]" not in ids or not _is_numbered_alike(files, model):
        return None
    special = _special_tokens(files, ids)
    tokenizer = rebuild(model, set(special.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=files.config.get("max_position_embeddings", 512),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **special,
    )


def _special_tokens(files: TokenizerFiles, ids: Mapping[str, int]) -> dict[str, str]:
    """Role -> piece: by the settings where they name a piece, else by the usual names."""
    special = {}
    for role, usual in _NAMES.items():
        given = files.settings.get(role)
        named = given.get("content") if isinstance(given, Mapping) else given
        found = next((name for name in (named, *usual) if name in ids), None)
        if found is not None:
            special[role] = found
    return special


def _is_numbered_alike(files: TokenizerFiles, model: SentencePieceModel) -> bool:
    if files.wordpieces is None:
        return True
    lines = files.wordpieces.read_text(encoding="utf-8").split("\n")
    return lines[: len(model.pieces)] == [piece for piece, _, _ in model.pieces]
