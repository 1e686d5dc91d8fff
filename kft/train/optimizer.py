"""The optimizer, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from kft.errors import Finding
from kft.recipe.train_section import TrainSection

Schedule = Callable[[int], float]


def learning_rate_schedule(section: TrainSection, total_steps: int) -> Schedule:
    """The learning rate of each optimizer step, counted from 1.

    It rises in a straight line over the first ``ceil(warmup_ratio * total_steps)`` steps to
    ``learning_rate``, then falls to zero as ``lr_scheduler_type`` says; the step after the last
    one would have zero.

    Source:
        Loshchilov & Hutter 2017, "SGDR", eq. 5, for the cosine.

    Example:
        >>> section = TrainSection(learning_rate=1.0, warmup_ratio=0.5, lr_scheduler_type="linear")
        >>> [learning_rate_schedule(section, 4)(step) for step in (1, 2, 3, 4)]
        [0.5, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    warmup_steps = math.ceil(section.warmup_ratio * total_steps)
    decay_steps = total_steps + 1 - max(warmup_steps, 1)

    def learning_rate(step: int) -> float:
        if step < warmup_steps:
            return section.learning_rate * step / warmup_steps
        progress = (step - max(warmup_steps, 1)) / decay_steps  # 0 to 1
        if section.lr_scheduler_type == "cosine":
            return section.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
        if section.lr_scheduler_type == "linear":
            return section.learning_rate * (1.0 - progress)
        return section.learning_rate

    return learning_rate


_LARGEST_USUAL = 0.02
"""AdamW moves each weight by about the learning rate at every step, whatever its gradient."""


def rate_findings(section: TrainSection) -> Iterator[Finding]:
    """A warning where the learning rate is far above any that is known to learn."""
    if section.learning_rate > _LARGEST_USUAL:
        yield Finding(
            "warning",
            f"A learning rate of {section.learning_rate:g} moves every weight by about as much at "
            "each step: runs diverge with less",
            where="`train.learning_rate`",
            hint="1e-4 to 2e-3 is usual with an adapter, 1e-5 to 1e-4 for all weights.",
        )


def make_optimizer(model: nn.Module, section: TrainSection) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; only matrices decay.

    Source:
        Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for parameter in trainable if parameter.ndim >= 2],
            "weight_decay": section.weight_decay,
        },
        {
            "params": [parameter for parameter in trainable if parameter.ndim < 2],
            "weight_decay": 0.0,
        },
    ]
    groups = [group for group in groups if group["params"]]
    betas = (section.adam_beta1, section.adam_beta2)
    if section.optim == "adamw":
        return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, fused=True)
    import bitsandbytes  # slow to import, and most runs do not need it

    name = "PagedAdamW8bit" if section.optim == "paged_adamw_8bit" else "AdamW8bit"
    optimizer = getattr(bitsandbytes.optim, name)(groups, lr=section.learning_rate, betas=betas)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"bitsandbytes.optim.{name} is not a torch optimizer")
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Write the learning rate into every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
