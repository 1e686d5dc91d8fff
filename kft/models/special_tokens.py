"""Start, end and padding tokens that a checkpoint's files leave out or put outside its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kft.models.presets import read_presets
from kft.models.tokenizer_files import Loading

_ENDS = ("</s>", "[EOS]", "<eos>", "<|endoftext|>", "<|end_of_text|>")
_PADDINGS = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>")


def set_listed_tokens(loading: Loading) -> tuple[Any, str | None]:
    """KoGPT2 and KoGPT: tokens that their README passes by hand.

    A token is set when the tokenizer has none, or one that it had to add to the vocabulary
    (``<|endoftext|>``, the GPT-2 class's default).
    """
    tokenizer = loading.tokenizer
    preset, rows = loading.preset, loading.files.rows
    if preset is None:
        return tokenizer, None
    vocabulary, done = tokenizer.get_vocab(), []
    for role, wanted in preset.special_tokens.items():
        if wanted not in vocabulary:
            continue
        current = getattr(tokenizer, f"{role}_token_id")
        is_outside = current is not None and rows is not None and current >= rows
        if current is None or is_outside:
            setattr(tokenizer, f"{role}_token", wanted)
            done.append(f"{role} `{wanted}`")
    if not done:
        return tokenizer, None
    return tokenizer, f"Special tokens were set as `{preset.name}` has them: {', '.join(done)}"


def set_end(loading: Loading) -> tuple[Any, str | None]:
    """An end token where none is named: the config's, a BERT's ``[SEP]``, or a usual one."""
    tokenizer = loading.tokenizer
    if tokenizer.eos_token_id is not None:
        return tokenizer, None
    end = _by_id(loading, "eos_token_id") or tokenizer.sep_token or _usual(tokenizer, _ENDS)
    if end is None:
        return tokenizer, None
    tokenizer.eos_token = end
    return tokenizer, f"`{end}` ends a text: the tokenizer names no end token"


def set_padding(loading: Loading) -> tuple[Any, str | None]:
    """A padding token where none is named: a trained one of a usual name, else the end token."""
    tokenizer = loading.tokenizer
    if tokenizer.pad_token_id is not None or tokenizer.eos_token_id is None:
        return tokenizer, None
    padding = _by_id(loading, "pad_token_id") or _usual(tokenizer, _PADDINGS)
    tokenizer.pad_token = padding or tokenizer.eos_token
    return tokenizer, f"`{tokenizer.pad_token}` pads: the tokenizer names no padding token"


def stop_ids(tokenizer: Any) -> list[int]:
    """Ids besides the end token that end an answer of a listed checkpoint's chat template.

    HyperCLOVA X ends a turn with ``<|endofturn|>`` or ``<|stop|>``, and its config names neither.
    """
    template, vocabulary = getattr(tokenizer, "chat_template", None), tokenizer.get_vocab()
    if not isinstance(template, str):
        return []
    found = {
        vocabulary[text]
        for preset in read_presets()
        if any(text in template for text in preset.stop)
        for text in preset.stop
        if text in vocabulary
    }
    return sorted(found - {tokenizer.eos_token_id})


def _by_id(loading: Loading, key: str) -> str | None:
    """The token of an id in the config, where it lies inside vocabulary and embedding."""
    tokenizer, files = loading.tokenizer, loading.files
    number = files.config.get(key)
    if type(number) is not int or not 0 <= number < min(len(tokenizer), files.rows or number + 1):
        return None
    token = tokenizer.convert_ids_to_tokens(number)
    return token if isinstance(token, str) else None


def _usual(tokenizer: Any, names: Sequence[str]) -> str | None:
    vocabulary = tokenizer.get_vocab()
    return next((name for name in names if name in vocabulary), None)
