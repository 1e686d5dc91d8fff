"""Greedy answers of many rows, of which each leaves the batch when it has ended.

transformers' ``generate`` computes a row until the last one of its batch has ended. Answers of one
batch differ in length, so most of that work is thrown away; here the batch, its cache and its
mask shrink instead. Tokens are those of ``generate``.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from kft.models.decoders import is_encoder
from kft.tasks.inputs import plain_model

_HARMLESS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens"),
    *("do_sample", "temperature", "top_p", "top_k", "use_cache"),
    *("output_attentions", "output_hidden_states", "transformers_version", "_from_model_config"),
}
"""Keys of a generation configuration that change nothing where the likeliest token is taken."""


def can_shrink(model: Any) -> bool:
    """Whether :func:`greedy_ids` says what ``generate`` would.

    Not of encoders, whose masks and positions are their own; of models whose state isn't keys and
    values; nor where the generation configuration asks for more than the likeliest token.
    """
    plain = plain_model(model)
    if is_encoder(plain.config) or getattr(plain, "_is_stateful", False):
        return False
    parameters = inspect.signature(plain.forward).parameters
    if not {"past_key_values", "position_ids", "logits_to_keep"} <= set(parameters):
        return False
    return set(model.generation_config.to_diff_dict()) <= _HARMLESS


@torch.no_grad()
def greedy_ids(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    ends: Collection[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """The new token ids of each row, its end token included where one was reached.

    Args:
        model: A causal LM in eval mode, one that :func:`can_shrink`.
        input_ids: int64 (B, T), padded on the left.
        attention_mask: int64 (B, T), 0 on padding.
        ends: End tokens.
        max_new_tokens: At most, per row.
    """
    found: list[list[int]] = [[] for _ in range(len(input_ids))]
    rows = torch.arange(len(input_ids), device=input_ids.device)  # those that go on
    last = torch.tensor(sorted(ends), device=input_ids.device)
    cache = DynamicCache(config=plain_model(model).config)
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        tokens = logits[:, -1].argmax(-1)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            found[row].append(token)
        goes_on = (~torch.isin(tokens, last)).nonzero().flatten()
        if not len(goes_on):
            break
        if len(goes_on) < len(rows):
            cache.batch_select_indices(goes_on)
        rows, attention_mask = rows[goes_on], attention_mask[goes_on]
        attention_mask = torch.cat([attention_mask, torch.ones_like(rows)[:, None]], dim=1)
        input_ids, positions = tokens[goes_on, None], positions[goes_on, -1:] + 1
    return found


def padded_left(prompts: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """Ids and mask of prompts, int64 (B, T), padded on the left: answers begin side by side."""
    width = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), width), pad, dtype=torch.int64)
    attention_mask = torch.zeros((len(prompts), width), dtype=torch.int64)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(list(ids))
        attention_mask[row, width - len(ids) :] = 1
    return input_ids.to(device), attention_mask.to(device)
