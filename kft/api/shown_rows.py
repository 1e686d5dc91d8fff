"""Rows as tokens, as they enter the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from kft.evaluation.metrics.entries import Kind
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Example

_LONGEST_CHARACTER = 4  # bytes of UTF-8, so tokens of a byte-level vocabulary at most


@dataclass(frozen=True)
class ShownRow:
    """A row as it enters the model.

    Args:
        place: ``file:line`` of its first document.
        documents: Those packed into the row, in order; of each token its text, and whether it
            is a target.
        answers: What each of them is to be given, where that is no text: its label, its number,
            or the tags of its target tokens; else ``None``.
    """

    place: str
    documents: list[list[tuple[str, bool]]]
    answers: list[str | None]

    @property
    def tokens(self) -> list[tuple[str, bool]]:
        """The tokens of all documents."""
        return [token for document in self.documents for token in document]


def shown_row(
    documents: Sequence[Example],
    tokenizer: Any,
    kind: Kind | None = None,
    labels: Sequence[str] = (),
) -> ShownRow:
    """The documents of one row as text.

    Tokens that hold parts of one character are shown together; the first token of a document is
    never a target, because nothing stands before it.

    Args:
        documents: Those of the row.
        tokenizer: The model's.
        kind: What is learned of a document, where that is no text.
        labels: Names of the labels or tags.
    """
    return ShownRow(
        documents[0].place,
        [_tokens(document, tokenizer) for document in documents],
        [_answer(document, kind, labels) for document in documents],
    )


def _answer(example: Example, kind: Kind | None, labels: Sequence[str]) -> str | None:
    if kind == "numbers" and example.value is not None:
        return f"{example.value:g}"
    if kind == "labels" and example.label is not None:
        return labels[example.label]
    if kind == "multilabels" and example.label_ids is not None:
        return ", ".join(compress(labels, example.label_ids)) or "no label"
    if kind == "tags":
        return " ".join(labels[tag] for tag in example.labels if tag != IGNORE_INDEX)
    return None


def _tokens(example: Example, tokenizer: Any) -> list[tuple[str, bool]]:
    shown: list[tuple[str, bool]] = []
    pending: list[int] = []
    for position, (token, label) in enumerate(zip(example.input_ids, example.labels, strict=True)):
        pending.append(token)
        text = tokenizer.decode(pending)
        is_last = position == len(example.input_ids) - 1
        if is_last or not text.endswith("\ufffd") or len(pending) == _LONGEST_CHARACTER:
            shown.append((text, label != IGNORE_INDEX and position > 0))
            pending = []
    return shown
