"""Start, end and padding tokens that a checkpoint's files leave out or put outside its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kft.models.presets import Preset
from kft.models.tokenizer_files import TokenizerFiles

_ROLES = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")
_ENDS = ("</s>", "[EOS]", "<eos>", "<|endoftext|>", "<|end_of_text|>")
_PADDINGS = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>")


def set_listed_tokens(
    tokenizer: Any, files: TokenizerFiles, preset: Preset | None
) -> tuple[Any, str | None]:
    """KoGPT2 and KoGPT: tokens that their README passes by hand.

    A token is set when the tokenizer has none, or one that it had to add to the vocabulary
    (``<|endoftext|>``, the GPT-2 class's default).
    """
    listed = preset.special_tokens if preset is not None else {}
    vocabulary, rows = tokenizer.get_vocab(), files.rows
    done = []
    for role in _ROLES:
        wanted = listed.get(role)
        if wanted is None or wanted not in vocabulary:
            continue
        current = getattr(tokenizer, f"{role}_token_id")
        is_outside = current is not None and rows is not None and current >= rows
        if current is None or is_outside:
            setattr(tokenizer, f"{role}_token", wanted)
            done.append(f"{role} `{wanted}`")
    if not done or preset is None:
        return tokenizer, None
    return tokenizer, f"Special tokens were set as `{preset.name}` has them: {', '.join(done)}"


def set_end(
    tokenizer: Any, files: TokenizerFiles, preset: Preset | None
) -> tuple[Any, str | None]:
    """An end token where none is named: the config's, a BERT's ``[SEP]``, or one of a usual name."""
    if tokenizer.eos_token_id is not None:
        return tokenizer, None
    end = _by_id(tokenizer, files, "eos_token_id") or tokenizer.sep_token or _usual(tokenizer, _ENDS)
    if end is None:
        return tokenizer, None
    tokenizer.eos_token = end
    return tokenizer, f"`{end}` ends a text: the tokenizer names no end token"


def set_padding(
    tokenizer: Any, files: TokenizerFiles, preset: Preset | None
) -> tuple[Any, str | None]:
    """A padding token where none is named: a trained one of a usual name, else the end token."""
    if tokenizer.pad_token_id is not None or tokenizer.eos_token_id is None:
        return tokenizer, None
    padding = _by_id(tokenizer, files, "pad_token_id") or _usual(tokenizer, _PADDINGS)
    tokenizer.pad_token = padding or tokenizer.eos_token
    return tokenizer, f"`{tokenizer.pad_token}` pads: the tokenizer names no padding token"


def _by_id(tokenizer: Any, files: TokenizerFiles, key: str) -> str | None:
    """The token of an id in the config, where it lies inside vocabulary and embedding."""
    number = files.config.get(key)
    if type(number) is not int or not 0 <= number < min(len(tokenizer), files.rows or number + 1):
        return None
    token = tokenizer.convert_ids_to_tokens(number)
    return token if isinstance(token, str) else None


def _usual(tokenizer: Any, names: Sequence[str]) -> str | None:
    vocabulary = tokenizer.get_vocab()
    return next((name for name in names if name in vocabulary), None)
