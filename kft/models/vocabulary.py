"""Rows of the token embedding for tokens that the checkpoint has never seen."""

from __future__ import annotations

from typing import Any

import torch

from kft.models.loader import vocabulary_rows


def fit_vocabulary(model: Any, tokenizer: Any) -> list[int]:
    """Give every token of the tokenizer a row in the model's embedding and head.

    A new row is the mean of the pretrained rows, so that a new token neither takes
    probability from the others nor depends on a random state: the same base can be made again
    when an adapter is merged. An embedding with enough rows is left alone; many checkpoints
    pad theirs (Polyglot-Ko has 30,080 rows for 30,003 tokens).

    Args:
        model: A transformers model without an adapter; changed in place.
        tokenizer: Its tokenizer, with tokens added or not.

    Returns:
        Ids of the tokens that got a new row, in order; empty when nothing was done.

    Source:
        Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    rows = vocabulary_rows(model)
    needed = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))
    if needed <= rows:
        return []
    resize_vocabulary(model, needed)
    return list(range(rows, needed))


def resize_vocabulary(model: Any, num_rows: int) -> None:
    """Add rows to the embedding and the head, tied or not, up to ``num_rows``; in place."""
    rows = vocabulary_rows(model)
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    parameters = [embedding.weight]
    if head is not None:
        if head.weight is not embedding.weight:
            parameters.append(head.weight)
        if getattr(head, "bias", None) is not None:
            parameters.append(head.bias)
    with torch.no_grad():
        for parameter in parameters:
            mean = parameter[:rows].float().mean(dim=0)
            parameter[rows:] = mean.to(parameter.dtype)
