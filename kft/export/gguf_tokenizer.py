"""A tokenizer as llama.cpp has it, or the reason why llama.cpp can't have it.

llama.cpp has a few tokenizers in its own code. A file names one of them and gives it pieces,
merges and special tokens. So a tokenizer is taken apart, and every part must be one that llama.cpp
has; what is left over is refused, since a model that is given other tokens than it was trained on
answers something else and says nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from tokenizers import pre_tokenizers

from kft.errors import UsageError
from kft.export.gguf_pieces import merge_lines, merge_scores

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ALONE = _BYTES | {"use_regex": False}


def _split(digits: str) -> dict[str, Any]:
    pattern = {"Regex": _SPLIT % digits}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


_DIGITS = {"type": "Digits", "individual_digits": True}
_PRE_TOKENIZERS: Sequence[tuple[str, bool, list[dict[str, Any]]]] = (
    ("gpt-2", False, [_BYTES]),
    ("starcoder", False, [_DIGITS, _BYTES]),
    ("qwen2", False, [_split(""), _BYTES_ALONE]),
    ("llama-bpe", True, [_split("{1,3}"), _BYTES_ALONE]),
    ("smaug-bpe", False, [_split("{1,3}"), _BYTES_ALONE]),
)
"""llama.cpp's name, whether it looks a whole word up before it merges, what it cuts words by."""

_PREFIXED = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]


class TokenType(IntEnum):
    """What a token is to llama.cpp; the numbers are those of a GGUF file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, as a GGUF file has it.

    Args:
        model: llama.cpp's kind: ``gpt2`` (bytes, merges) or ``llama`` (sentencepiece, scores).
        pre: llama.cpp's name for what cuts words.
        tokens: As many as the model has rows.
        types: Of each.
        merges: In their order, for ``gpt2``.
        scores: Of each token, for ``llama``.
        special: Role (``bos``, ``eos``, ``pad``, ``unk``) -> token.
        adds_bos: The start token goes in front of each text.
        adds_space: A space goes in front of each text, for ``llama``.
        chat_template: The jinja text, if there is one.
        composes: Texts are brought into NFC first, which llama.cpp doesn't do.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[TokenType]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    special: Mapping[str, int] | None = None
    adds_bos: bool = False
    adds_space: bool = False
    chat_template: str | None = None
    composes: bool = False


def read_vocabulary(tokenizer: Any, num_rows: int) -> Vocabulary:
    """Take a tokenizer apart.

    Args:
        tokenizer: The transformers tokenizer.
        num_rows: Rows of the model's embedding; those without a token are called unused.

    Raises:
        UsageError: If llama.cpp can't express it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused(f"`{type(tokenizer).__name__}` isn't one of the `tokenizers` library")
    parts = json.loads(backend.to_str())
    model = parts["model"]
    if model["type"] != "BPE":
        raise _refused(
            f"its model is `{model['type']}`",
            "a byte-level BPE, or a sentencepiece BPE with `byte_fallback`; other kinds weren't "
            "proven to give the same tokens",
        )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise _refused(f"its BPE has `{key}: {model[key]}`", "none")
    tokens, types = _tokens(backend, parts, num_rows)
    if model.get("byte_fallback"):
        found = _sentencepiece(parts, tokens, types)
    else:
        found = _byte_level(parts, tokens, types)
    if len(set(found.tokens)) < len(found.tokens):
        raise _refused("two of its tokens read alike")
    template = getattr(tokenizer, "chat_template", None)
    return replace(
        found,
        special=_special(tokenizer, num_rows),
        adds_bos=_adds_bos(tokenizer),
        chat_template=template if isinstance(template, str) else None,
    )


def _tokens(
    backend: Any, parts: Mapping[str, Any], num_rows: int
) -> tuple[list[str], list[TokenType]]:
    """Each row's token, and what it is as far as the list of added tokens tells."""
    ids = backend.get_vocab(with_added_tokens=True)
    if max(ids.values()) >= num_rows:
        raise _refused(
            f"it has ids up to {max(ids.values()):,}", f"ids below the model's {num_rows:,} rows"
        )
    tokens = [f"[PAD{number}]" for number in range(num_rows)]
    types = [TokenType.UNUSED] * num_rows
    for token, number in ids.items():
        tokens[number], types[number] = token, TokenType.NORMAL
    for added in parts["added_tokens"]:
        for key in ("single_word", "lstrip", "rstrip"):
            if added[key]:
                raise _refused(f"its token `{added['content']}` has `{key}`", "none that has")
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    return tokens, types


def _byte_level(parts: Mapping[str, Any], tokens: list[str], types: list[TokenType]) -> Vocabulary:
    normalizer = parts["normalizer"]
    steps = _steps(normalizer, "normalizers")
    if steps not in ([], [{"type": "NFC"}]):
        raise _refused(f"it changes texts first: {_names(steps)}", "none, or `NFC`")
    cutting = [_settled(step) for step in _steps(parts["pre_tokenizer"], "pretokenizers")]
    looks_up = bool(parts["model"].get("ignore_merges"))
    pre = next(
        (name for name, looks, form in _PRE_TOKENIZERS if (looks, form) == (looks_up, cutting)),
        None,
    )
    if pre is None:
        kind = "with" if looks_up else "without"
        raise _refused(
            f"it cuts words by {_names(cutting)}, {kind} `ignore_merges`",
            f"what llama.cpp calls {', '.join(name for name, _, _ in _PRE_TOKENIZERS)}",
        )
    missing = set(pre_tokenizers.ByteLevel.alphabet()) - set(tokens)
    if missing:
        raise _refused(f"{len(missing)} of the 256 bytes have no token of their own", "all of them")
    merges = merge_lines(parts["model"]["merges"])
    return Vocabulary("gpt2", pre, tokens, types, merges=merges, composes=bool(steps))


def _sentencepiece(
    parts: Mapping[str, Any], tokens: list[str], types: list[TokenType]
) -> Vocabulary:
    steps = _steps(parts["normalizer"], "normalizers")
    cutting = _steps(parts["pre_tokenizer"], "pretokenizers")
    if cutting or steps not in (_PREFIXED, _PREFIXED[1:]):
        # Metaspace puts no space where one is, or none behind a special token; llama.cpp does.
        raise _refused(
            f"it makes pieces of spaces by {_names([*steps, *cutting])}",
            "`Prepend` and `Replace` (a space before every text and behind every special token, "
            "as llama.cpp has it), or `Replace` alone",
        )
    byte_tokens = {f"<0x{number:02X}>" for number in range(256)}
    missing = byte_tokens - set(tokens)
    if missing:
        raise _refused(f"{len(missing)} of the 256 bytes have no token of their own", "all of them")
    for number, token in enumerate(tokens):
        if token in byte_tokens:
            types[number] = TokenType.BYTE
        elif token == parts["model"].get("unk_token"):
            types[number] = TokenType.UNKNOWN
    normal = [types[number] == TokenType.NORMAL for number in range(len(tokens))]
    scores = merge_scores(tokens, normal, parts["model"]["merges"])
    if scores is None:
        raise _refused(
            "its merges have an order that no scores of pieces have",
            "merges that come from a sentencepiece model",
        )
    return Vocabulary(
        "llama", "default", tokens, types, scores=scores, adds_space=steps == _PREFIXED
    )


def _steps(part: Any, key: str) -> list[Any]:
    """The members of a ``Sequence``, or the one there is."""
    if part is None:
        return []
    return list(part[key]) if part["type"] == "Sequence" else [part]


def _settled(step: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has nothing to do with tokens."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _names(steps: Sequence[Mapping[str, Any]]) -> str:
    said = [{key: value for key, value in step.items() if value} for step in steps]
    return ", ".join(f"`{json.dumps(one, ensure_ascii=False)}`" for one in said) or "nothing"


def _special(tokenizer: Any, num_rows: int) -> dict[str, int]:
    roles = ("bos", "eos", "pad", "unk")
    found = {role: getattr(tokenizer, f"{role}_token_id") for role in roles}
    return {role: number for role, number in found.items() if number in range(num_rows)}


def _adds_bos(tokenizer: Any) -> bool:
    """Whether texts begin with the start token; nothing else may be put around them."""
    for text in ("가", "하늘이 높다."):
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = tokenizer(text)["input_ids"]
        if whole not in (plain, [tokenizer.bos_token_id, *plain]):
            raise _refused(
                f"it makes {tokenizer.convert_ids_to_tokens(whole)} of `{text}`",
                "at most the start token around a text",
            )
    return len(whole) > len(plain)


def _refused(why: str, expected: str | None = None) -> UsageError:
    return UsageError(
        "llama.cpp can't express this tokenizer",
        where=why,
        expected=expected,
        hint="The merged folder is served as it is by transformers or vLLM.",
    )
