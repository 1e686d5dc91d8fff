"""What a batch is to a model's forward: the keyword arguments, with positions and masks."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kft.ops.attention import NAME, Documents, document_inputs, visible
from kft.ops.autocast import computed_dtype
from kft.ops.few_shapes import filled
from kft.tasks.task import Batch


def plain_model(model: Any) -> Any:
    """The transformers model inside a PEFT model, with the adapter's layers in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def model_inputs(model: Any, batch: Batch) -> dict[str, Any]:
    """Keyword arguments of a transformers forward, for its body or its class with a head.

    Args:
        model: The transformers model, without PEFT's wrapper.
        batch: Padded on either side, or one row of documents; in half precision on a CPU the
            row is filled up, and what the model says of its end is about nothing.
    """
    batch = _filled(batch, model)
    inputs: dict[str, Any] = {"input_ids": batch.input_ids}
    if batch.documents is not None:
        inputs |= _document_inputs(model, batch.documents, batch.input_ids.device)
    elif batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask
    positions = batch_positions(batch, model)
    if positions is not None:
        inputs["position_ids"] = positions
    if batch.token_type_ids is not None and getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = batch.token_type_ids
    if is_causal(model):
        inputs["use_cache"] = False
    return inputs


def _filled(batch: Batch, model: Any) -> Batch:
    """A row of documents with a few more tokens, so that rows of few lengths are computed."""
    more = filled(batch.input_ids.shape[1]) - batch.input_ids.shape[1]
    if batch.documents is None or not more or not _is_half_on_cpu(batch.input_ids, model):
        return batch

    def longer(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else nn.functional.pad(tensor, (0, more))

    return replace(
        batch,
        input_ids=nn.functional.pad(batch.input_ids, (0, more)),
        position_ids=longer(batch.position_ids),
        token_type_ids=longer(batch.token_type_ids),
        documents=replace(batch.documents, filling=more),
    )


def _is_half_on_cpu(ids: Tensor, model: Any) -> bool:
    halves = (torch.bfloat16, torch.float16)
    return ids.device.type == "cpu" and computed_dtype(next(model.parameters())) in halves


def _document_inputs(model: Any, documents: Documents, device: torch.device) -> dict[str, Any]:
    if model.config._attn_implementation == NAME:
        return document_inputs(documents, device)
    sees = visible(documents, device, is_causal=is_causal(model))
    dtype = next(model.parameters()).dtype
    # As numbers to add: some attention functions add a mask of booleans too.
    mask = torch.zeros(sees.shape, dtype=dtype, device=device)
    return {"attention_mask": mask.masked_fill(~sees, torch.finfo(dtype).min)[None, None]}


def is_causal(model: Any) -> bool:
    """Whether the model's tokens see only those before them; else they see all."""
    return bool(
        getattr(getattr(model, "config", None), "is_decoder", False)
        or "past_key_values" in inspect.signature(model.forward).parameters
    )


def first_position(model: Any) -> int:
    """Number of the first position: RoBERTa counts from behind its padding token's id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def batch_positions(batch: Batch, model: Any) -> Tensor | None:
    """int64 (B, T), as the model numbers them; ``None``: it does so itself, from the left."""
    if batch.position_ids is not None:
        return batch.position_ids + first_position(model)
    if batch.attention_mask is None:
        return None
    real = batch.attention_mask > 0  # (B, T)
    if bool(real[:, 0].all()):  # padded on the right, where positions count for nothing
        return None
    return (real.long().cumsum(1) - 1).clamp(min=0) + first_position(model)


def ends(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Where each row or document stands: its row, its first and its last token.

    Returns:
        Three int64 tensors (R,), R rows or documents.
    """
    device = batch.input_ids.device
    if batch.documents is not None:
        lengths = torch.tensor(batch.documents.lengths, device=device)
        last = lengths.cumsum(0) - 1
        return torch.zeros_like(last), last - lengths + 1, last
    rows, width = batch.input_ids.shape
    every = torch.arange(rows, device=device)
    if batch.attention_mask is None:
        return every, torch.zeros_like(every), torch.full_like(every, width - 1)
    real = (batch.attention_mask > 0).long()
    first = real.argmax(1)
    return every, first, first + real.sum(1) - 1


def document_numbers(batch: Batch) -> Tensor:
    """int64 (B, T): the row or document that each token belongs to, counted from 0."""
    rows, width = batch.input_ids.shape
    device = batch.input_ids.device
    if batch.documents is None:
        return torch.arange(rows, device=device).unsqueeze(1).expand(rows, width)
    lengths = torch.tensor(batch.documents.lengths, device=device)
    numbers = torch.arange(len(lengths), device=device)
    return torch.repeat_interleave(numbers, lengths).unsqueeze(0)
