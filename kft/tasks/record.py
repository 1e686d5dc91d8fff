"""One row of the user's data; apart from the other shapes, so that reading rows needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LabelUse = Literal["answer", "class", "value"]

Message = Mapping[str, str]
"""One turn: ``role`` and ``content``; a user turn may carry ``input`` (Alpaca's context)."""


@dataclass(frozen=True)
class Record:
    """One row of the user's data after its columns were given their roles.

    Exactly one of ``text``, ``messages`` and ``tokens`` is set.

    Args:
        text: Running text, every token of which is a target; or what is labelled or tagged.
        messages: Turns of a conversation, oldest first; the last is what is learned.
        label: Index into the data's label names when the answer is one of them, else ``None``.
        place: ``file:line`` of the row, for messages to the user.
        text_pair: The second text of a pair.
        tokens: The row's tokens, in the order in which they stand in ``text``; a token may be
            a blank.
        tags: One for each of ``tokens``: ``O``, or ``B-`` or ``I-`` and the entity's name.
        value: A score, where one is learned instead of a label.
        label_ids: Where several labels may hold: the indices of those that do, rising.
    """

    place: str
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    label: int | None = None
    text_pair: str | None = None
    tokens: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    value: float | None = None
    label_ids: tuple[int, ...] | None = None
