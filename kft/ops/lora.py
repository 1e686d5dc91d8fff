"""A frozen linear layer with its low-rank update, in as few passes over memory as there can be.

Shapes: N tokens, I inputs, O outputs, r the rank.
"""

from __future__ import annotations

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


def add_update(x: Tensor, base: Tensor, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    """``base + (x @ down.T) @ up.T * scaling``, where ``base`` comes from a quantized layer.

    Args:
        x: float (..., I).
        base: float (..., O), what the frozen layer says of ``x``.
        down: float (r, I), LoRA's A.
        up: float (O, r), LoRA's B.
        scaling: ``lora_alpha / r``, or as the adapter has it.

    Returns:
        float (..., O), in the precision of ``base``.
    """
    dtype = base.dtype
    with torch.autocast(base.device.type, enabled=False):
        small = functional.linear(x.to(dtype).reshape(-1, x.shape[-1]), down.to(dtype))  # (N, r)
        rows = base.reshape(-1, base.shape[-1])
        return torch.addmm(rows, small, up.to(dtype).T, alpha=scaling).reshape(base.shape)


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
        (to_out,) = upstream
        x, small, weight, down, up = ctx.saved_tensors
        to_small = (to_out @ up).mul_(ctx.scaling)  # (N, r)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (to_out @ weight.T).addmm_(to_small, down)
        to_down = to_small.T @ x
        to_up = (to_out.T @ small).mul_(ctx.scaling)
        return to_x, None, None, to_down, to_up, None
