"""A text, or a pair of texts, as token ids for tasks that label them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kft.errors import DataError
from kft.tasks.task import EncodeOptions, Record


@dataclass(frozen=True)
class Encoded:
    """A row's tokens.

    Args:
        input_ids: At most ``max_length``.
        token_type_ids: 1 on the second text; ``None`` where there is only one.
        was_truncated: Tokens were cut from it.
        text: What was encoded.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    was_truncated: bool
    text: str


def row_texts(record: Record) -> tuple[str, str | None]:
    """The text of a row and its second one.

    A row of ``classification`` that was read as a conversation asks with its text.
    """
    if record.text is not None:
        return record.text, record.text_pair
    turns = [turn["content"] for turn in record.messages or () if turn["role"] != "assistant"]
    if not turns:
        raise DataError(
            "Row has no text", where=record.place, expected="a text, or two, with a label"
        )
    return "\n".join(turns), record.text_pair


def encode_texts(record: Record, tokenizer: Any, options: EncodeOptions) -> Encoded | None:
    """The tokens of a row's text or texts, with the special tokens that the checkpoint has.

    Where a tokenizer marks no second text (GPT), its end token stands between the two. Of two
    texts the longer one is cut first.

    Returns:
        ``None`` when the row is left out because it is too long.

    Raises:
        DataError: If it is too long and ``on_too_long`` is ``error``, or nothing is left of it.
    """
    text, pair = row_texts(record)
    is_encoder = getattr(tokenizer, "sep_token_id", None) is not None
    ids, types = _ids(tokenizer, text, pair, None if is_encoder else tokenizer.eos_token_id)
    too_long = len(ids) > options.max_length
    if too_long and options.on_too_long == "drop":
        return None
    if too_long and options.on_too_long == "error":
        raise row_too_long(record.place, len(ids), options.max_length)
    if too_long and is_encoder:
        cut = tokenizer(text, pair, truncation=True, max_length=options.max_length)
        ids, types = list(cut.input_ids), _types(cut, pair)
    elif too_long:
        ids = ids[: options.max_length]
    while not is_encoder and ids[-1:] == [tokenizer.pad_token_id]:
        ids.pop()  # transformers reads off the last token that isn't padding
    if not ids:
        raise DataError("Row has no token", where=record.place, expected="a text")
    return Encoded(ids, types, too_long, text if pair is None else f"{text}\n{pair}")


def row_too_long(place: str, num_tokens: int, max_length: int) -> DataError:
    """The error for a row that may not be cut."""
    return DataError(
        f"Row has {num_tokens} tokens",
        where=place,
        expected=f"at most {max_length} tokens (`data.max_length`)",
        hint="`data.on_too_long: truncate` cuts the end off, `drop` leaves such rows out.",
    )


def _ids(
    tokenizer: Any, text: str, pair: str | None, between: int | None
) -> tuple[list[int], list[int] | None]:
    if pair is not None and between is not None:
        second = list(tokenizer(pair, add_special_tokens=False).input_ids)
        return [*tokenizer(text).input_ids, between, *second], None
    whole = tokenizer(text) if pair is None else tokenizer(text, pair)
    return list(whole.input_ids), _types(whole, pair)


def _types(encoded: Any, pair: str | None) -> list[int] | None:
    types = encoded.get("token_type_ids")
    return None if pair is None or types is None else list(types)
