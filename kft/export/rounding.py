"""How far a merged model may be from the trained one, fixed before it is looked at."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kft.export.differences import LogitRowsOf, measure, next_tokens
from kft.tasks.task import Batch

FLOAT32_LOGITS = 1e-3
FLOAT32_KL_NATS = 1e-6
MARGIN = 4.0
"""A limit is this many times what rounding alone does to base + adapter."""


@dataclass(frozen=True)
class Limits:
    """How far a merged model may be from the trained one.

    Args:
        logits: Largest difference of two logits.
        kl_nats: KL divergence, nats per position.
        dtype: Precision of the saved weights.
        origin: Where the two numbers come from.
    """

    logits: float
    kl_nats: float
    dtype: str
    origin: str


def rounding_limits(
    model: nn.Module,
    batches: Sequence[Batch],
    dtype: torch.dtype,
    *,
    logit_rows: LogitRowsOf = next_tokens,
    draws: int = 3,
    seed: int = 0,
) -> Limits:
    """What rounding the weights to ``dtype`` may do to base + adapter, without merging anything.

    For float32 the limits are fixed. Otherwise the model is compared with itself after every
    weight that a merge touches, and every other weight that a cast to ``dtype`` would change,
    was moved by a random rounding error: uniform within half a unit in the last place of the
    merged weight. The limits are ``MARGIN`` times the largest of the draws.

    A quantized reference needs no more than that: in :func:`as_reference`'s form it computes
    in float32 on the very values that ``plain_base`` holds.

    Args:
        model: The plain base with its adapter, unmerged, float32; it is not changed, but a
            second one is held in memory meanwhile. (Or a fully trained model.)
        batches: Held-out rows.
        dtype: Precision of the saved weights.
        logit_rows: How the task reads a row's logits.
        draws: How often the weights are moved.
        seed: Of the random errors.
    """
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float32:
        return Limits(FLOAT32_LOGITS, FLOAT32_KL_NATS, name, "fixed for float32")
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    logits, kl = [FLOAT32_LOGITS], [FLOAT32_KL_NATS]
    for _ in range(draws):
        _move_weights(model, moved, dtype, generator)
        seen = measure(model, moved, batches, logit_rows)
        logits.append(MARGIN * float(seen.largest))
        kl.append(MARGIN * seen.kl_nats)
    origin = f"{MARGIN:g} x the largest of {draws} random roundings of base + adapter to {name}"
    return Limits(max(logits), max(kl), name, origin)


@torch.no_grad()
def _move_weights(
    model: nn.Module, moved: nn.Module, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Write into ``moved`` the weights of ``model``, each with its own rounding error."""
    layers = dict(model.named_modules())
    numbers = torch.finfo(dtype)
    for (name, weight), target in zip(model.named_parameters(), moved.parameters(), strict=True):
        if "lora_" in name or not weight.is_floating_point():
            continue  # the factors are folded into a weight, not rounded themselves
        layer: Any = layers[name.rsplit(".base_layer.", 1)[0]] if ".base_layer." in name else None
        size = weight.abs()
        is_rounded = weight.to(dtype).to(weight.dtype) != weight
        if layer is not None and name.endswith(".weight") and hasattr(layer, "get_delta_weight"):
            for adapter in layer.active_adapters:
                size = size + layer.get_delta_weight(adapter).abs()
            is_rounded = torch.ones_like(is_rounded)
        # Numbers of [2^(e-1), 2^e) lie eps * 2^(e-1) apart; below `tiny` they keep that distance.
        exponent = size.clamp(min=numbers.tiny).frexp().exponent
        half_unit = torch.ldexp(torch.full_like(size, numbers.eps / 4), exponent)
        error = 2 * torch.rand(weight.shape, generator=generator) - 1
        target.copy_(weight + is_rounded * half_unit * error.to(weight.device))
