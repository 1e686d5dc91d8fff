"""The language head and its cross-entropy in chunks: never N x V logits at once.

With N targets and a vocabulary of V words the logits are what a step needs most memory for; of
KoGPT2's 51,200 words and 4,096 targets, 839 MB in float32 and as much again for their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kft.ops import few_shapes
from kft.ops.autocast import computed_dtype
from kft.ops.few_shapes import CHUNK_BYTES
from kft.ops.losses import token_log_probs

BLOCK_BYTES = 2**21
"""Of a block's logits in float32, on a CPU: as much as one core's second cache."""


def linear_cross_entropy_sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Tensor:
    """Sum over rows of ``-log softmax(hidden @ weight.T + bias)[target]``.

    Equal to :func:`kft.ops.losses.cross_entropy_sum` of ``functional.linear(...)``, forwards and
    backwards. The gradients are computed with the loss, chunk by chunk, while a chunk's logits
    are there: they are not computed twice, and not kept.

    Args:
        hidden: float (N, D); under autocast in the precision of that.
        weight: float (V, D), frozen or trained.
        bias: float (V,), or ``None``.
        targets: int64 (N,), each below V.

    Returns:
        float32 scalar, nats; 0 with gradient 0 when N is 0.

    Source:
        Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training", section 3.2,
        FusedLinearCrossEntropy.
    """
    hidden, weight, bias = _as_computed(hidden, weight, bias)
    with torch.autocast(hidden.device.type, enabled=False):
        apply: Any = _LinearCrossEntropy.apply
        total: Tensor = apply(hidden, weight, bias, targets)
    return total


def linear_log_probs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Tensor:
    """``log softmax(hidden @ weight.T + bias)[target]`` of each row, float32 (N,); no gradient."""
    hidden, weight, bias = _as_computed(hidden, weight, bias)
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        parts = [
            _chunk_log_probs(part, weight, bias, wanted)
            for part, wanted in _chunks(hidden, targets, len(weight))
        ]
    return torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)


def _as_computed(
    hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in the precision that the hidden states are computed with."""
    dtype = computed_dtype(hidden)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _chunks(hidden: Tensor, targets: Tensor, num_words: int) -> list[tuple[Tensor, Tensor]]:
    rows = few_shapes.chunk_rows(num_words, CHUNK_BYTES)
    parts = torch.split(hidden, rows), torch.split(targets, rows)
    return list(zip(*parts, strict=True)) if len(targets) else []


def _chunk_log_probs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Tensor:
    logits = functional.linear(_filled(hidden, len(weight)), weight, bias)[: len(hidden)]
    return torch.cat([token_log_probs(*block) for block in _in_blocks(logits, targets)])


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias, _ = ctx.needs_input_grad
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_hidden = torch.empty_like(hidden) if wants_hidden else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        to_bias = None
        if bias is not None and wants_bias:
            to_bias = torch.zeros_like(bias, dtype=torch.float32)
        done = 0
        for part, wanted in _chunks(hidden, targets, len(weight)):
            part = _filled(part, len(weight))
            slope = functional.linear(part, weight, bias)  # logits, so far
            total += _to_slopes(slope[: len(wanted)], wanted, to_bias)
            if to_hidden is not None:
                _put_product(to_hidden[done : done + len(wanted)], slope, weight)
            if to_weight is not None:
                _add_product(to_weight, slope, part)
            done += len(wanted)
            del slope  # before the next chunk is made beside it
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        made = [None if one is None else (one * scale).to(dtype) for one, dtype in pairs]
        return (*made, None)


def _to_slopes(logits: Tensor, targets: Tensor, to_bias: Tensor | None) -> Tensor:
    """Put ``softmax(logits) - 1 at the target`` in the logits' place; the loss they had, summed.

    Computed in float32, on a CPU in blocks that don't leave its cache between two operations.
    """
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for block, wanted in _in_blocks(logits, targets):
        index = wanted[:, None]
        row = block.float()  # (C, V); itself, where that is float32
        top = row.amax(1, keepdim=True)
        at_target = row.gather(1, index) - top
        norm = row.sub_(top).exp_().sum(1, keepdim=True)
        total += (norm.log() - at_target).sum()
        row.div_(norm).scatter_add_(1, index, row.new_full((len(row), 1), -1.0))
        if to_bias is not None:
            to_bias += row.sum(0)
        if row is not block:
            block.copy_(row)
    return total


def _filled(rows: Tensor, num_words: int) -> Tensor:
    """With rows of zeros behind them, where a product is written anew for each number of rows."""
    if rows.device.type != "cpu" or rows.dtype not in (torch.bfloat16, torch.float16):
        return rows
    most = few_shapes.chunk_rows(num_words, CHUNK_BYTES)
    more = few_shapes.filled_chunk(len(rows), most) - len(rows)
    return functional.pad(rows, (0, 0, 0, more)) if more else rows


def _in_blocks(logits: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What of a chunk is worked on at once."""
    if logits.device.type != "cpu":
        return iter([(logits, targets)])
    rows = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    return zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)


def _put_product(to_hidden: Tensor, slope: Tensor, weight: Tensor) -> None:
    """``to_hidden = slope @ weight``, without the rows that were filled up."""
    if len(slope) == len(to_hidden):
        torch.mm(slope, weight, out=to_hidden)
    else:
        to_hidden.copy_((slope @ weight)[: len(to_hidden)])


def _add_product(to_weight: Tensor, slope: Tensor, part: Tensor) -> None:
    """``to_weight += slope.T @ part``, summed over chunks in float32."""
    if slope.dtype == torch.float32:
        to_weight.addmm_(slope.T, part)
    else:
        to_weight += slope.T @ part
