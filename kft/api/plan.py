"""Which rows each optimizer step reads: the recipe's numbers, applied to the examples."""

from __future__ import annotations

from collections.abc import Sequence

from kft.data.batches import WindowPlan
from kft.data.packing import Packing
from kft.recipe.schema import Recipe
from kft.tasks.task import Example, Task


def wants_packing(recipe: Recipe, task: Task) -> bool:
    """What ``data.packing`` asks for; ``auto`` packs where tokens are counted, not rows."""
    if recipe.data.packing == "auto":
        return task.head == "language"
    return recipe.data.packing


def window_plan(recipe: Recipe, examples: Sequence[Example], *, packed: bool) -> WindowPlan:
    """The steps of a run.

    Args:
        recipe: The resolved recipe.
        examples: The training examples.
        packed: Several of them share a row of ``data.max_length`` tokens.
    """
    section = recipe.train
    packing = None
    if packed:
        packing = Packing([len(one.input_ids) for one in examples], recipe.data.max_length)
    return WindowPlan(
        num_examples=len(examples),
        rows_per_batch=section.per_device_train_batch_size,
        batches_per_window=section.gradient_accumulation_steps,
        num_train_epochs=section.num_train_epochs,
        max_steps=section.max_steps,
        seed=section.seed,
        packing=packing,
    )
