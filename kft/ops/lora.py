"""A frozen linear layer with its low-rank update, in as few passes over memory as there can be.

Shapes: N tokens, I inputs, O outputs, r the rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kft.ops.autocast import computed_dtype


def lora_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
) -> Tensor:
    """``x @ weight + bias + (x @ down.T) @ up.T * scaling``.

    The update is added inside the matrix products, forwards and backwards; PEFT makes arrays of
    (N, O) and (N, I) for it, and passes over them three and two times.

    Args:
        x: float (..., I).
        weight: float (I, O), frozen; a transposed view will do.
        bias: float (O,), frozen, or ``None``.
        down: float (r, I), LoRA's A; cast to the precision of ``x``.
        up: float (O, r), LoRA's B; likewise.
        scaling: ``lora_alpha / r``, or as the adapter has it.

    Returns:
        float (..., O), in the precision of ``x``, or of autocast where that is on.

    Source:
        Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", eq. 3.
    """
    kind = x.device.type
    dtype = computed_dtype(x)
    with torch.autocast(kind, enabled=False):
        apply: Any = _LoraLinear.apply
        rows = x.to(dtype).reshape(-1, x.shape[-1])
        frozen = (weight.to(dtype), None if bias is None else bias.to(dtype))
        out: Tensor = apply(rows, *frozen, down.to(dtype), up.to(dtype), scaling)
    return out.reshape(*x.shape[:-1], out.shape[-1])


def plain_lora_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
) -> Tensor:
    """The plain reference of :func:`lora_linear`, as the equation is written."""
    update = functional.linear(functional.linear(x, down), up) * scaling
    return functional.linear(x, weight.T, bias) + update


def lora_product(
    x: Tensor,
    product: Callable[[Tensor], Tensor],
    weight: Callable[[], Tensor],
    down: Tensor,
    up: Tensor,
    scaling: float,
) -> Tensor:
    """The same on a layer that is known by what it does, such as a quantized one.

    Args:
        x: float (..., I).
        product: What the frozen layer makes of (N, I): a new (N, O) in the same precision.
        weight: Its weight, float (O, I); made at each backward pass and not kept.
        down: float (r, I), LoRA's A; cast to the precision of ``x``.
        up: float (O, r), LoRA's B; likewise.
        scaling: ``lora_alpha / r``, or as the adapter has it.

    Returns:
        float (..., O), in the precision of ``x``, or of autocast where that is on.
    """
    dtype = computed_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        apply: Any = _LoraProduct.apply
        rows = x.to(dtype).reshape(-1, x.shape[-1])
        out: Tensor = apply(rows, product, weight, down.to(dtype), up.to(dtype), scaling)
    return out.reshape(*x.shape[:-1], out.shape[-1])


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None,
        down: Tensor, up: Tensor, scaling: float,
    ) -> Tensor:  # fmt: skip
        out = x @ weight if bias is None else torch.addmm(bias, x, weight)  # (N, O)
        small = x @ down.T  # (N, r)
        out.addmm_(small, up.T, alpha=scaling)
        ctx.save_for_backward(x, small, weight, down, up)
        ctx.scaling = scaling
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, small, weight, down, up = ctx.saved_tensors
        to_x, to_down, to_up = _slopes(ctx, upstream[0], x, small, lambda: weight.T, down, up)
        return to_x, None, None, to_down, to_up, None


class _LoraProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, product: Callable[[Tensor], Tensor], weight: Callable[[], Tensor],
        down: Tensor, up: Tensor, scaling: float,
    ) -> Tensor:  # fmt: skip
        out = product(x)  # (N, O)
        small = x @ down.T  # (N, r)
        out.addmm_(small, up.T, alpha=scaling)
        ctx.save_for_backward(x, small, down, up)
        ctx.weight, ctx.scaling = weight, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, small, down, up = ctx.saved_tensors
        to_x, to_down, to_up = _slopes(ctx, upstream[0], x, small, ctx.weight, down, up)
        return to_x, None, None, to_down, to_up, None


def _slopes(
    ctx: Any,
    to_out: Tensor,
    x: Tensor,
    small: Tensor,
    weight: Callable[[], Tensor],
    down: Tensor,
    up: Tensor,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of the input, where it wants one, and of the adapter; the weight is (O, I)."""
    to_small = (to_out @ up).mul_(ctx.scaling)  # (N, r)
    to_x = None
    if ctx.needs_input_grad[0]:
        to_x = (to_out @ weight()).addmm_(to_small, down)
    return to_x, to_small.T @ x, (to_out.T @ small).mul_(ctx.scaling)
