"""Rendered text as token ids, with its targets marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Rendered, Tokenizer


def ids_of(texts: Sequence[str], tokenizer: Any, *, with_specials: bool) -> list[list[int]]:
    """Token ids of each text, whole and unpadded, as ``tokenizer(text).input_ids`` gives them.

    A fast tokenizer's own library is asked for nothing but ids, which takes three quarters of
    the time.

    Args:
        texts: Any number of them.
        tokenizer: A transformers tokenizer.
        with_specials: The tokens around a text, as the tokenizer puts them.
    """
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not getattr(tokenizer, "is_fast", False) or backend is None:
        slow: list[list[int]] = tokenizer(list(texts), add_special_tokens=with_specials).input_ids
        return slow
    backend.no_truncation()  # what its file or an earlier call may have left
    backend.no_padding()
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=with_specials)
    return [encoding.ids for encoding in encodings]


def text_ids(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Ids of running texts, each between a start and an end token.

    The start token is the checkpoint's, else its end token, which is what separated documents
    in pre-training; so the first character is predicted as well and bits per character count
    the whole text.
    """
    if not texts:
        return []
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    end = tokenizer.eos_token_id
    encoded = ids_of(texts, tokenizer, with_specials=True)
    for ids in encoded:
        if start is not None and ids[:1] != [start]:
            ids.insert(0, start)
        if end is not None and ids[-1:] != [end]:
            ids.append(end)
    return encoded


def prompt_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of the beginning of a running text, as :func:`text_ids` begins it; never empty."""
    ids = text_ids([text], tokenizer)[0]
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids


def encode_pieces(
    conversations: Sequence[Rendered], tokenizer: Tokenizer
) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of renderings.

    The first prompt's ids are exactly those it has alone, as it will be at generation: where a
    token would reach over the cut, the two sides are encoded separately. So they are by the
    tokenizer of an encoder, to which an answer right behind its prompt is the end of a word.

    Returns:
        ``input_ids`` and ``labels`` of each, of one length.
    """
    end = tokenizer.eos_token_id
    is_encoder = end is not None and getattr(tokenizer, "sep_token_id", None) == end
    texts = [list(accumulate(text for text, _ in talk.pieces)) for talk in conversations]
    flat = [text for talk in texts for text in talk]
    wholes = iter(ids_of(flat, tokenizer, with_specials=False))
    encoded: list[tuple[list[int], list[int]]] = []
    for talk in conversations:
        input_ids: list[int] = []
        labels: list[int] = []
        for piece, is_target in talk.pieces:
            whole = next(wholes)
            if not is_encoder and whole[: len(input_ids)] == input_ids:
                added = whole[len(input_ids) :]
            else:
                added = list(tokenizer(piece, add_special_tokens=False).input_ids)
            input_ids += added
            labels += added if is_target else [IGNORE_INDEX] * len(added)
        encoded.append((input_ids, labels))
    return encoded
