"""Plans of one checkpoint and data set, for whatever recipe one would train them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kft.api.plan import wants_packing
from kft.api.shapes import shapes_of
from kft.data.packing import Packing
from kft.errors import ModelError
from kft.models.checkpoint_files import weight_file_bytes
from kft.models.precision import compute_dtype, weights_dtype
from kft.models.sizes import ModelSizes
from kft.recipe.schema import Recipe
from kft.tasks.task import Task
from kft.train.memory import MemoryPlan, Setting, plan_memory
from kft.train.micro_batch import Lengths, largest_batch, largest_evaluation, packed_batch
from kft.train.sharing import Sharing

_HIDDEN = 0.2
"""Share of the tokens that `masked_lm` hides, rounded up."""
CHECKPOINTED_ABOVE = 1_000_000_000
"""Weights above which ``train.gradient_checkpointing: auto`` computes activations again on CUDA."""


class Planner:
    """Plans of one checkpoint and data set for different recipes."""

    def __init__(
        self,
        config: Any,
        task: Task,
        device: torch.device,
        process: int,
        sharing: Sharing,
        ranks: int,
    ) -> None:
        self._config = config
        self._task = task
        self._device = device
        self._process = process
        self._sharing, self._ranks = sharing, ranks

    def num_rows(self, recipe: Recipe, lengths: Lengths) -> int:
        """Rows of an epoch, packed ones where they are packed."""
        if not wants_packing(recipe, self._task):
            return len(lengths.tokens)
        limit = recipe.data.max_length
        return len(Packing(lengths.cut(limit).tokens.tolist(), limit))

    def plan_of(self, recipe: Recipe, lengths: Lengths) -> Callable[[int], MemoryPlan]:
        """What the recipe needs, as a function of the rows in a micro-batch.

        Raises:
            ModelError: If the model can't be trained so.
        """
        if recipe.model.quantization != "none" and self._sharing.weights and self._sharing.is_zero:
            raise ModelError("ZeRO's stage 3 shares no quantized weights")  # so it is no way out
        limit = recipe.data.max_length
        lengths = lengths.cut(limit)
        sizes, unpadded = self._sizes(recipe)
        setting = self._setting(recipe, sizes, lengths)
        packed = wants_packing(recipe, self._task)
        train = recipe.train

        def plan(rows: int) -> MemoryPlan:
            if packed:
                batch = packed_batch(lengths, rows, limit)
            else:
                each = train.gradient_accumulation_steps
                batch = largest_batch(lengths, rows, each, train.seed, padded=not unpadded)
            if self._task.name == "masked_lm":
                batch = replace(batch, targets=round(batch.tokens * _HIDDEN))
            return plan_memory(sizes, batch, setting)

        return cache(plan)

    def _sizes(self, recipe: Recipe) -> tuple[ModelSizes, bool]:
        """The model in numbers, and whether its rows stand side by side without padding."""
        shapes = shapes_of(recipe, self._config, self._task)
        _, computed, stream = self._bytes(recipe)
        return shapes.shared if computed == stream else shapes.copied, shapes.unpadded

    def _bytes(self, recipe: Recipe) -> tuple[int, int, int]:
        """Bytes of a weight, of a computed number, and of a hidden state between the blocks."""
        computed = compute_dtype(recipe.train.precision, self._device)
        weights = weights_dtype(recipe.model.dtype, computed, self._device)
        if recipe.adapter.method == "full":
            weights = torch.float32
        sizes = weights.itemsize, computed.itemsize
        # On CUDA autocast computes norms in float32.
        stream = 4 if self._device.type == "cuda" else max(sizes)
        return *sizes, stream

    def _setting(self, recipe: Recipe, sizes: ModelSizes, lengths: Lengths) -> Setting:
        weights, computed, stream = self._bytes(recipe)
        train = recipe.train
        recomputes = train.gradient_checkpointing
        if recomputes == "auto":
            total = sizes.frozen + sizes.quantized + sizes.trained
            recomputes = self._device.type == "cuda" and total > CHECKPOINTED_ABOVE
        return Setting(
            device="cuda" if self._device.type == "cuda" else "cpu",
            weight_bytes=weights,
            computed_bytes=computed,
            stream_bytes=stream,
            file_bytes=weight_file_bytes(Path(recipe.model.name_or_path))
            if recipe.model.init == "pretrained"
            else 0,
            quantization=recipe.model.quantization,
            double_quant=recipe.model.double_quant,
            optim=train.optim,
            recomputes=bool(recomputes),
            offloads=train.activation_offloading and self._device.type == "cuda",
            eval_tokens=largest_evaluation(lengths, recipe.evaluate.per_device_eval_batch_size),
            process_bytes=self._process,
            sharing=self._sharing,
            ranks=self._ranks,
        )
