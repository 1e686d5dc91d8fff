"""The optimizer's step: clipped, and taken only where loss and gradient are finite numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kft.train.weights import whole, zero_of


def update(
    module: Any, optimizer: Any, accelerator: Any, loss: Tensor, max_grad_norm: float
) -> tuple[Tensor, bool]:
    """Clip the gradients of a window, take the step, and forget them.

    Args:
        module: The prepared module.
        optimizer: The prepared optimizer, its learning rate set.
        accelerator: The run's one Accelerator.
        loss: float32 scalar, that of the window on all ranks.
        max_grad_norm: Gradients are scaled down to this norm; 0 is off. ZeRO knows its own.

    Returns:
        The gradient's norm before clipping, a float scalar, and whether the step was taken: not
        where the loss isn't finite, or the gradient isn't although no float16 scaler is there to
        skip the step and lower its scale.
    """
    zero = zero_of(module)
    if zero is not None:  # it clips as it steps, and takes no step whose norm isn't finite
        if not torch.isfinite(loss):
            return torch.full_like(loss, float("nan")), False
        norm, taken = zero.step()
        return norm, taken
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    # With an infinite limit nothing is clipped, and the norm is still known.
    norm = whole(accelerator.clip_grad_norm_(parameters, max_grad_norm or float("inf")))
    if not _is_finite(loss, norm, accelerator.scaler):
        return norm, False
    optimizer.step()
    optimizer.zero_grad()
    return norm, True


def _is_finite(loss: Tensor, grad_norm: Tensor, scaler: Any) -> bool:
    """One wait for the device, for both numbers."""
    both = torch.stack([loss.float(), grad_norm.float()])
    return bool(torch.isfinite(both if scaler is None else both[:1]).all())
