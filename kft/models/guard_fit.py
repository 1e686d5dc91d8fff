"""Whether a tokenizer's ids fit a model: rows, segments, special tokens, class, padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from kft.errors import Finding, counted

_WHERE = "`model.tokenizer`"
_ROLES = ("bos", "eos", "pad", "cls", "sep")
_COUNTS_FROM_PADDING = {"roberta", "xlm-roberta", "camembert", "longformer"}
_GENERIC = {"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"}


def fit_findings(
    tokenizer: Any, config: Any, declared_class: str | None, highest_id: int
) -> list[Finding]:
    """What of the tokenizer doesn't fit the model, errors and warnings.

    Args:
        tokenizer: A transformers tokenizer.
        config: The model's configuration, or ``None``.
        declared_class: The class that the checkpoint's files name.
        highest_id: Largest id that was seen in encoded texts.
    """
    found = list(_class_findings(tokenizer, declared_class))
    if config is None:
        return found
    found += _row_findings(tokenizer, config, highest_id)
    found += _segment_findings(tokenizer, config)
    found += _special_findings(tokenizer, config)
    if is_encoder(config):
        found += _encoder_findings(tokenizer)
    return found


def is_encoder(config: Any) -> bool:
    """Whether the model's tokens see both sides."""
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )


def _class_findings(tokenizer: Any, declared: str | None) -> Iterator[Finding]:
    loaded = type(tokenizer).__name__.removesuffix("Fast")
    if declared is None or loaded in _GENERIC:
        return
    wanted = declared.removesuffix("Fast")
    if wanted not in {loaded, *_GENERIC}:
        yield Finding(
            "warning", f"The files declare `{declared}`, and `{loaded}` was loaded", _WHERE
        )


def _row_findings(tokenizer: Any, config: Any, highest_id: int) -> Iterator[Finding]:
    """Ids without a row in the embedding: added tokens get one, a foreign vocabulary none."""
    rows = getattr(config, "vocab_size", None)
    if not isinstance(rows, int):
        return
    added = tokenizer.get_added_vocab()
    vocabulary = tokenizer.get_vocab()
    outside = {token: number for token, number in vocabulary.items() if number >= rows}
    foreign = [token for token in outside if token not in added]
    if foreign:
        yield Finding(
            "error",
            f"{len(foreign):,} pieces of the tokenizer have no row in the model, first "
            f"`{min(foreign, key=outside.__getitem__)}`; expected ids below {rows:,}, and the "
            f"vocabulary has {len(vocabulary):,} pieces",
            _WHERE,
            "`model.tokenizer` names the tokenizer of another checkpoint, or its files were mixed.",
        )
    elif outside:
        first = min(outside, key=outside.__getitem__)
        many = counted(len(outside), "added token")
        said = f"{many} without a trained embedding, first `{first}`"
        is_used = highest_id >= rows
        hint = "Their rows are new and are trained with the adapter." if is_used else None
        yield Finding("warning" if is_used else "note", said, _WHERE, hint)


def _segment_findings(tokenizer: Any, config: Any) -> Iterator[Finding]:
    types = getattr(config, "type_vocab_size", None)
    if not isinstance(types, int) or "token_type_ids" not in tokenizer.model_input_names:
        return
    try:
        encoded = tokenizer("하나", "둘", padding="max_length", max_length=16, truncation=True)
    except (TypeError, ValueError):  # a tokenizer without pairs or padding has no such ids
        return
    highest = max(encoded.get("token_type_ids", [0]), default=0)
    if highest >= max(types, 1):
        yield Finding(
            "error",
            f"The tokenizer numbers segments up to {highest}; expected below {types}, the "
            "model's `type_vocab_size`",
            _WHERE,
            "`model.tokenizer` names the one that the checkpoint was published with.",
        )


def _special_findings(tokenizer: Any, config: Any) -> Iterator[Finding]:
    """Special ids of the config against the tokenizer's; training and export use the latter."""
    rows = getattr(config, "vocab_size", None)
    for role in _ROLES:
        said = getattr(config, f"{role}_token_id", None)
        own = getattr(tokenizer, f"{role}_token_id", None)
        said = said[0] if isinstance(said, list) and said else said
        if not isinstance(said, int) or said == own:
            continue
        if isinstance(rows, int) and not 0 <= said < rows:
            what = f"The config's `{role}_token_id` {said} lies outside the {rows:,} rows"
            used = f": the tokenizer's {own} is used" if own is not None else ""
            yield Finding("warning", what + used, "`model.name_or_path`")
        elif role == "pad" and config.model_type in _COUNTS_FROM_PADDING:
            yield Finding(
                "error",
                f"The tokenizer pads with {own}; expected {said}, the config's: the model counts "
                "its positions from that id",
                _WHERE,
                "Write the config's id and the tokenizer's `pad_token` alike.",
            )
        elif own is not None:
            what = f"The config's `{role}_token_id` is {said} and the tokenizer's {own}"
            yield Finding("note", f"{what}, which is used", "`model.name_or_path`")


def _encoder_findings(tokenizer: Any) -> Iterator[Finding]:
    if tokenizer.padding_side == "left":
        yield Finding(
            "warning",
            "The tokenizer pads on the left, and an encoder counts positions from there",
            _WHERE,
            "Write `padding_side: right` into its `tokenizer_config.json`.",
        )
    first = tokenizer.cls_token_id
    if first is None:
        return
    ids = tokenizer("가")["input_ids"]
    if not ids or ids[0] != first:
        yield Finding(
            "warning",
            f"The tokenizer doesn't put `{tokenizer.cls_token}` in front of a text",
            _WHERE,
            "A classifier reads the first token.",
        )
