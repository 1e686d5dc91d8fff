"""How long a run's steps will take, before any weight is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from kft.api.shapes import shapes_of
from kft.bench import matmul_peak
from kft.models.precision import compute_dtype
from kft.recipe.schema import Recipe
from kft.tasks.task import Task
from kft.train.micro_batch import Lengths

UTILIZATION = {"cpu": 0.6, "cuda": 0.4}
"""Share of the peak of a large product that a step's products reach: on CPUs 0.5 to 0.8 was
measured, on CUDA this is a guess."""
BESIDE_PRODUCTS = 0.4
"""What a step does beside its products in half precision on a CPU takes so much of the time that
the products would take in float32: measured with AMX, and right for avx512_bf16 alone."""
_SECONDS = 0.2  # for finding the peak


@dataclass(frozen=True)
class Duration:
    """A rough one: evaluation, loading and export are not in it.

    Args:
        tokens_per_second: Of training.
        train_seconds: Of all steps.
    """

    tokens_per_second: float
    train_seconds: float

    def as_dict(self) -> dict[str, float]:
        """As plain types."""
        return asdict(self)


def expected_duration(
    recipe: Recipe,
    config: Any,
    task: Task,
    lengths: Lengths,
    epochs: float,
    device: torch.device,
) -> Duration | None:
    """The FLOP of a run's products by what this device multiplies at best, measured on the spot.

    Args:
        recipe: The recipe.
        config: The checkpoint's configuration, with the task's head in it.
        task: Its task.
        lengths: Of the rows.
        epochs: Passes over them.
        device: Where it will compute.

    Returns:
        ``None`` where what a step costs isn't known: code of the checkpoint's own, and quantized
        weights, whose unpacking costs more than their products on some devices.
    """
    if recipe.model.trust_remote_code or recipe.model.quantization != "none":
        return None
    cut = lengths.cut(recipe.data.max_length)
    tokens, targets = int(cut.tokens.sum()), int(cut.targets.sum())
    if not tokens:
        return None
    flop = shapes_of(recipe, config, task).products.flop(tokens, targets)
    speed = _expected_speed(device, compute_dtype(recipe.train.precision, device))
    return Duration(tokens * speed / flop, epochs * flop / speed)


def _expected_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP of products per second of training."""
    speed = UTILIZATION[device.type] * matmul_peak(device, dtype, _SECONDS)
    if device.type != "cpu" or dtype == torch.float32:
        return speed
    beside = BESIDE_PRODUCTS / matmul_peak(device, torch.float32, _SECONDS)
    return 1.0 / (1.0 / speed + beside)
