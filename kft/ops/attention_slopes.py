"""Attention in half precision on a CPU, with a backward pass in float32.

torch's kernel packs each block anew for the processor's half-precision products, which short
documents don't repay: its backward pass of 48 tokens takes five times as long as in float32.

Shapes: B rows, H heads, T tokens, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LONGEST = 320
"""Tokens; between 350 and 500 torch's own backward pass becomes the faster one (with AMX, on two
cores)."""


def slow_backward(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether torch's own backward pass would be the slower one, and this can stand for it.

    torch's function asks for the same before it takes the kernel that is called here.
    """
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.dtype == key.dtype == value.dtype
        and query.shape[2] <= LONGEST
        and query.shape[1] == key.shape[1] == value.shape[1]
        and query.shape[3] == key.shape[3] == value.shape[3]
        and all(one.stride(3) == 1 for one in (query, key, value))
        and dropout == 0.0
        and torch.is_grad_enabled()
    )


def attend_with_float32_slopes(
    query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None
) -> Tensor:
    """Softmax attention; its gradients are computed in float32, and rounded once.

    Args:
        query: float (B, H, T, E), on a CPU.
        key: float (B, H, T, E).
        value: float (B, H, T, E).
        is_causal: A token sees none behind it.
        scale: Of the scores; ``None`` is ``1 / sqrt(E)``.

    Returns:
        float (B, H, T, E), the very numbers of ``scaled_dot_product_attention``.

    Source:
        Dao et al. 2022, "FlashAttention: Fast and Memory-Efficient Exact Attention with
        IO-Awareness", algorithm 4, which is what torch's kernels do.
    """
    apply: Any = _Attend.apply
    output: Tensor = apply(query, key, value, is_causal, scale)
    return output


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None
    ) -> Tensor:
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, norms = attend(query, key, value, 0.0, is_causal, scale=scale)
        ctx.save_for_backward(query, key, value, output, norms)
        ctx.kind = (0.0, is_causal)
        ctx.scale = scale
        found: Tensor = output
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (to_output,) = upstream
        *arrays, norms = ctx.saved_tensors  # norms: float32 already
        slopes = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            to_output.float(), *(one.float() for one in arrays), norms, *ctx.kind, scale=ctx.scale
        )
        return (*(slope.to(to_output.dtype) for slope in slopes), None, None)
