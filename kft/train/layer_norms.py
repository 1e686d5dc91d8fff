"""How large the gradient is in each layer, while a run trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kft.train.weights import whole


class LayerNorms:
    """Norms of each layer's gradient, taken as the optimizer takes its step.

    Args:
        optimizer: The prepared optimizer.
        layers: Name -> the trained weights of a layer.
        every: Optimizer steps between two looks.
        first_step: Number of the first step, counted from 1.
    """

    def __init__(
        self,
        optimizer: Any,
        layers: Mapping[str, Sequence[nn.Parameter]],
        *,
        every: int,
        first_step: int = 1,
    ) -> None:
        self._layers = {name: list(weights) for name, weights in layers.items() if weights}
        self._every = every
        self._step = first_step
        self._seen: tuple[int, list[Tensor], Tensor] | None = None
        if self._layers:
            inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper holds it
            inner.register_step_pre_hook(self._look)

    def of(self, step: int, grad_norm: float) -> dict[str, float]:
        """Name -> L2 norm before clipping; empty when this step was not looked at.

        Args:
            step: The step just taken.
            grad_norm: Norm of the whole gradient before clipping.
        """
        seen, self._step = self._seen, step + 1
        if seen is None or seen[0] != step:
            return {}
        _, norms, total = seen
        clipped = float(total)
        scale = grad_norm / clipped if clipped > 0 and math.isfinite(grad_norm) else 1.0
        return {name: scale * float(norm) for name, norm in zip(self._layers, norms, strict=True)}

    def _look(self, optimizer: Any, *_: Any) -> None:
        if self._step % self._every:
            return
        norms = [_norm([one.grad for one in weights]) for weights in self._layers.values()]
        every = [one.grad for group in optimizer.param_groups for one in group["params"]]
        self._seen = self._step, norms, _norm(every)


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """L2 norm of several gradients together, a scalar."""
    there = [gradient for gradient in gradients if gradient is not None]
    return whole(torch.nn.utils.get_total_norm(there))
