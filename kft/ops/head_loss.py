"""The language head and its cross-entropy in chunks: never N x V logits at once.

With N targets and a vocabulary of V words the logits are what a step needs most memory for; of
KoGPT2's 51,200 words and 4,096 targets, 839 MB in float32 and as much again for their gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kft.ops.losses import token_log_probs

CHUNK_BYTES = 2**26
"""float32 logits held at once, in bytes."""


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
            token_log_probs(functional.linear(part, weight, bias), wanted)
            for part, wanted in _chunks(hidden, targets, len(weight))
        ]
    return torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)


def _chunks(hidden: Tensor, targets: Tensor, num_words: int) -> list[tuple[Tensor, Tensor]]:
    rows = max(16, CHUNK_BYTES // (4 * num_words))
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
            logits = functional.linear(part, weight, bias).float()  # (C, V)
            norms = logits.logsumexp(1, keepdim=True)  # (C, 1)
            total += (norms.squeeze(1) - logits.gather(1, wanted[:, None]).squeeze(1)).sum()
            # d loss / d logits = softmax(logits) - 1 at the target
            logits.sub_(norms).exp_()
            logits.scatter_add_(1, wanted[:, None], logits.new_full((len(wanted), 1), -1.0))
            slope = logits.to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(slope, weight, out=to_hidden[done : done + len(part)])
            if to_weight is not None:
                _add_product(to_weight, slope, part)
            if to_bias is not None:
                to_bias += logits.sum(0)
            done += len(part)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        made = [None if one is None else (one * scale).to(dtype) for one, dtype in pairs]
        return (*made, None)


def _add_product(to_weight: Tensor, slope: Tensor, part: Tensor) -> None:
    """``to_weight += slope.T @ part``, summed over chunks in float32."""
    if slope.dtype == torch.float32:
        to_weight.addmm_(slope.T, part)
    else:
        to_weight += slope.T @ part
