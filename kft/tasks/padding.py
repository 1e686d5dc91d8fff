"""Examples side by side in one micro-batch: padded rows, or documents in one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kft.tasks.task import Batch, Documents, Example


def pad_lists(lists: Sequence[Sequence[int]], value: int) -> Tensor:
    """int64 (B, T): each list a row, ``value`` behind the shorter ones."""
    out = torch.full((len(lists), max(map(len, lists))), value, dtype=torch.int64)
    for row, numbers in enumerate(lists):
        out[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return out


def arrange(
    examples: Sequence[Example],
    pad_token_id: int,
    labels: Tensor,
    num_counted: int,
    *,
    packed: bool = False,
) -> Batch:
    """A batch of the examples' tokens.

    Args:
        examples: At least one.
        pad_token_id: Fills the shorter rows.
        labels: As :class:`Batch` has them.
        num_counted: What the sum of the batch's losses is divided by.
        packed: One row of documents, without padding.
    """
    ids = [example.input_ids for example in examples]
    lengths = [len(one) for one in ids]
    types = [example.token_type_ids or [0] * len(example.input_ids) for example in examples]
    has_types = any(example.token_type_ids for example in examples)
    if packed:
        return Batch(
            input_ids=_one_row(ids),
            labels=labels,
            attention_mask=None,
            position_ids=_one_row([list(range(length)) for length in lengths]),
            num_tokens=sum(lengths),
            num_counted=num_counted,
            documents=Documents(tuple(lengths)),
            token_type_ids=_one_row(types) if has_types else None,
        )
    is_padded = min(lengths) < max(lengths)
    return Batch(
        input_ids=pad_lists(ids, pad_token_id),
        labels=labels,
        attention_mask=pad_lists([[1] * length for length in lengths], 0) if is_padded else None,
        position_ids=None,
        num_tokens=sum(lengths),
        num_counted=num_counted,
        token_type_ids=pad_lists(types, 0) if has_types else None,
    )


def token_labels(lists: Sequence[Sequence[int]], value: int, *, packed: bool) -> Tensor:
    """Labels aligned with the tokens of :func:`arrange`: (B, T), or (1, T) when packed."""
    return _one_row(lists) if packed else pad_lists(lists, value)


def _one_row(lists: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([number for numbers in lists for number in numbers]).unsqueeze(0)
