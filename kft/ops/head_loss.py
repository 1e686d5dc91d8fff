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

from kft.ops.losses import token_log_probs

CHUNK_BYTES = 2**26
"""Of a chunk's logits, were they float32."""
BLOCK_BYTES = 2**21
"""Of a block's logits in float32, on a CPU: as much as one core's second cache."""
_ROWS = 64


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
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        apply: Any = _LinearCrossEntropy.apply
        total: Tensor = apply(hidden, weight, bias, targets)
    return total


def linear_log_probs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Tensor:
    """``log softmax(hidden @ weight.T + bias)[target]`` of each row, float32 (N,); no gradient."""
    with torch.no_grad():
        parts = [
            token_log_probs(block, wanted)
            for part, some in _chunks(hidden, targets, len(weight))
            for block, wanted in _in_blocks(_logits(part, weight, bias), some)
        ]
    return torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)


def _chunks(hidden: Tensor, targets: Tensor, num_words: int) -> list[tuple[Tensor, Tensor]]:
    rows = max(16, CHUNK_BYTES // (4 * num_words))
    rows -= rows % _ROWS if rows > _ROWS else 0
    parts = torch.split(hidden, rows), torch.split(targets, rows)
    return list(zip(*parts, strict=True)) if len(targets) else []


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
            part = _filled(part)
            slope = functional.linear(part, weight, bias)  # logits, so far
            slope[len(wanted) :] = 0.0
            total += _to_slopes(slope[: len(wanted)], wanted, to_bias)
            if to_hidden is not None:
                to_hidden[done : done + len(wanted)] = (slope @ weight)[: len(wanted)]
            if to_weight is not None:
                _add_product(to_weight, slope, part)
            done += len(wanted)
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


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(_filled(hidden), weight, bias)[: len(hidden)]


def _filled(rows: Tensor) -> Tensor:
    """With rows of zeros behind them, where a product is written anew for each number of rows.

    See :mod:`kft.ops.few_shapes`; that of so large a weight takes 50 milliseconds, and reading
    the weight longer than a few rows more.
    """
    more = -len(rows) % _ROWS
    if rows.device.type != "cpu" or rows.dtype == torch.float32 or not more:
        return rows
    return functional.pad(rows, (0, 0, 0, more))


def _in_blocks(logits: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What of a chunk is worked on at once."""
    if logits.device.type != "cpu":
        return iter([(logits, targets)])
    rows = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    return zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)


def _add_product(to_weight: Tensor, slope: Tensor, part: Tensor) -> None:
    """``to_weight += slope.T @ part``, summed over chunks in float32."""
    if slope.dtype == torch.float32:
        to_weight.addmm_(slope.T, part)
    else:
        to_weight += slope.T @ part
