"""How long a run's steps will take, before any weight is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from kft.api.shapes import shapes_of
from kft.bench import matmul_peak, small_step_seconds
from kft.models.precision import compute_dtype
from kft.recipe.schema import Recipe
from kft.tasks.task import Task
from kft.train.micro_batch import Lengths

UTILIZATION = {"cpu": 0.6, "cuda": 0.4}
"""Share of the peak of a large product that a step's products reach: on CPUs 0.5 to 0.8 was
measured, on CUDA this is a guess."""
BESIDE_PRODUCTS = 0.3
"""What a step does beside its products in half precision on a CPU takes so much of the time that
the products would take in float32: measured with AMX, and right for avx512_bf16 alone."""
STARTS_PER_LAYER = 47
"""Small steps (:func:`kft.bench.small_step_seconds`) that starting a block's operations takes, once
for each micro-batch: measured on CPUs with blocks of 256, whose products are over at once."""
STARTS_PER_DOCUMENT = 6
"""Likewise for each document of it, which is attended to by itself."""
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
    batches: int,
    device: torch.device,
) -> Duration | None:
    """What a run's products take, and starting all that is done; both measured on the spot.

    On a GPU what is started runs while more is started, so the longer of the two counts.

    Args:
        recipe: The recipe.
        config: The checkpoint's configuration, with the task's head in it.
        task: Its task.
        lengths: Of the rows.
        epochs: Passes over them.
        batches: Micro-batches of a pass.
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
    shapes = shapes_of(recipe, config, task)
    speed = _expected_speed(device, compute_dtype(recipe.train.precision, device))
    products = shapes.products.flop(tokens, targets) / speed
    is_apart = shapes.unpadded and device.type == "cpu"
    starts = STARTS_PER_LAYER * batches + STARTS_PER_DOCUMENT * is_apart * len(lengths.tokens)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    starting = starts * layers * small_step_seconds()
    seconds = products + starting if device.type == "cpu" else max(products, starting)
    return Duration(tokens / seconds, epochs * seconds)


def _expected_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP of products per second of training."""
    speed = UTILIZATION[device.type] * matmul_peak(device, dtype, _SECONDS)
    if device.type != "cpu" or dtype == torch.float32:
        return speed
    beside = BESIDE_PRODUCTS / matmul_peak(device, torch.float32, _SECONDS)
    return 1.0 / (1.0 / speed + beside)
