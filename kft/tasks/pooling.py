"""Body, pooling and head of models that say one thing of a whole row or document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kft.tasks.inputs import ends, model_inputs, plain_model
from kft.tasks.padding import pad_lists
from kft.tasks.task import Batch

_FIRST_TOKEN_HEADS = frozenset({"roberta", "xlm-roberta", "camembert", "electra", "big_bird"})
"""Architectures whose ``classifier`` itself takes the first of the hidden states it is given."""


def row_logits(model: Any, batch: Batch) -> Tensor:
    """What a model with a classification head says of each row or document, float (R, C).

    An encoder is read off at its first token, a decoder at its last real one; so the side of
    the padding changes nothing. Documents in one row are read off at their own ends.

    Args:
        model: An ``AutoModelForSequenceClassification``, or a PEFT model around one.
        batch: Padded on either side, or one row of documents.
    """
    plain = plain_model(model)
    body = getattr(plain, plain.base_model_prefix)
    kind = plain.config.model_type
    if not (hasattr(plain, "score") or kind == "bert" or kind in _FIRST_TOKEN_HEADS):
        # Another head: transformers' own forward, which wants padded rows.
        rows = padded_rows(batch, plain.config.pad_token_id or 0)
        logits: Tensor = plain(**model_inputs(plain, rows)).logits
        return logits
    hidden = body(**model_inputs(plain, batch)).last_hidden_state  # (B, T, D)
    row, first, last = ends(batch)  # (R,) each
    if hasattr(plain, "score"):
        scores: Tensor = plain.score(hidden[row, last])
        return scores
    picked = hidden[row, first].unsqueeze(1)  # (R, 1, D): all that the heads look at
    if kind == "bert":
        picked = plain.dropout(body.pooler(picked))
    classes: Tensor = plain.classifier(picked)
    return classes


def padded_rows(batch: Batch, pad_token_id: int) -> Batch:
    """The documents of one row as rows padded on the right; a padded batch as it is."""
    if batch.documents is None:
        return batch
    lengths = list(batch.documents.lengths)
    parts = [part.tolist() for part in torch.split(batch.input_ids[0], lengths)]
    types = None
    if batch.token_type_ids is not None:
        types = pad_lists(
            [part.tolist() for part in torch.split(batch.token_type_ids[0], lengths)], 0
        )
    rows = replace(
        batch,
        input_ids=pad_lists(parts, pad_token_id),
        attention_mask=pad_lists([[1] * length for length in lengths], 0),
        position_ids=None,
        token_type_ids=types,
        documents=None,
    )
    return rows.to(batch.input_ids.device)


class RowHead(nn.Module):
    """A model with a head for whole rows; what losses on rows are made of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def logits(self, batch: Batch) -> Tensor:
        """float32 (R, C)."""
        return row_logits(self.model, batch).float()


def ones(values: Tensor) -> Tensor:
    """int64, one per row: rows are what is counted."""
    return torch.ones(len(values), dtype=torch.int64, device=values.device)
