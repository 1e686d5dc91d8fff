"""What a device can multiply at best, and how much of that a training step's products are.

FLOP: floating-point operations; a multiplication and its addition are two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

_SIDE = {"cpu": 1536, "cuda": 6144}
"""Of the square matrices that are multiplied: large enough to reach the peak. On a GPU a product of
1,536 is over in ten microseconds, most of them spent on starting it."""

_TRIES, _STEPS = 10, 20


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """The most FLOP per second that a product of two matrices reached here and now.

    Args:
        device: Where.
        dtype: Precision of the matrices.
        seconds: How long to try; matrices grow as long as that allows it.
    """
    largest = _SIDE[device.type]
    started, side, elapsed = time.perf_counter(), 96, 0.0
    # A product of twice the side takes eight times as long, and the first one is not counted:
    # minutes in a precision that the hardware doesn't have.
    while side < largest and 16 * elapsed <= seconds:
        side *= 2
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        left @ right  # the first one sets things up
        elapsed = _product_seconds(left, right)
    best = elapsed
    while time.perf_counter() - started < seconds:
        best = min(best, _product_seconds(left, right))
    return float(2 * side**3 / best)


def _product_seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    synchronize(left.device)
    before = time.perf_counter()
    left @ right
    synchronize(left.device)
    return time.perf_counter() - before


def small_step_seconds() -> float:
    """How long a product of next to nothing takes, forwards and backwards: what starting costs."""
    weight, rows = torch.zeros(16, 16, requires_grad=True), torch.zeros(4, 16)
    best = float("inf")
    for _ in range(_TRIES):
        before = time.perf_counter()
        for _ in range(_STEPS):
            torch.autograd.grad(nn.functional.gelu(rows @ weight).sum(), weight)
        best = min(best, (time.perf_counter() - before) / _STEPS)
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class ProductWeights:
    """Weights that take part in matrix products, by how often a step uses them.

    Args:
        frozen: Of layers on every token, whose own gradient isn't wanted.
        trained: Likewise, and it is.
        frozen_head: Of the language head, on every target.
        trained_head: Likewise.
    """

    frozen: int
    trained: int
    frozen_head: int
    trained_head: int

    def flop(self, num_tokens: int, num_targets: int) -> int:
        """FLOP of one step: 4 a weight where it is frozen, 6 where it is trained.

        Forwards 2, backwards 2 for the input's gradient and 2 for the weight's. The products of
        attention, and what checkpointing computes again, aren't counted.

        Source:
            Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.
        """
        on_tokens = 4 * self.frozen + 6 * self.trained
        on_targets = 4 * self.frozen_head + 6 * self.trained_head
        return on_tokens * num_tokens + on_targets * num_targets


def product_weights(model: Any) -> ProductWeights:
    """Count them in a transformers model, or a PEFT model around one."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    counts = {(is_head, trains): 0 for is_head in (True, False) for trains in (True, False)}
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            size = module.weight.numel()
            if hasattr(module, "in_features"):  # a quantized weight's own size says less
                size = module.in_features * module.out_features
            counts[module is head, module.weight.requires_grad] += size
    return ProductWeights(
        frozen=counts[False, False],
        trained=counts[False, True],
        frozen_head=counts[True, False],
        trained_head=counts[True, True],
    )
