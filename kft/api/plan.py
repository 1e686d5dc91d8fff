"""Which rows each optimizer step reads: the recipe's numbers, applied to the examples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from kft.data.batches import WindowPlan, length_key
from kft.data.packing import Packing
from kft.data.table import lengths
from kft.recipe.schema import Recipe
from kft.tasks.task import Example, Task


def wants_packing(recipe: Recipe, task: Task) -> bool:
    """What ``data.packing`` asks for; ``auto`` packs where tokens are counted, not rows."""
    if recipe.data.packing == "auto":
        return task.head == "language" and not recipe.data.streaming
    return recipe.data.packing


def window_plan(
    recipe: Recipe,
    examples: Sequence[Example],
    *,
    packed: bool,
    rows: int | None = None,
    ranks: int = 1,
) -> WindowPlan:
    """The steps of a run.

    Args:
        recipe: The resolved recipe.
        examples: The training examples.
        packed: Several of them share a row of ``data.max_length`` tokens.
        rows: Of a micro-batch, where the recipe says ``auto``.
        ranks: Processes that the run was begun with; each brings its micro-batches.
    """
    section = recipe.train
    said = section.per_device_train_batch_size
    packing = None
    if packed:
        packing = Packing(lengths(examples), recipe.data.max_length)
    return WindowPlan(
        num_examples=len(examples),
        rows_per_batch=said if said != "auto" else rows or 1,
        batches_per_window=section.gradient_accumulation_steps * ranks,
        num_train_epochs=section.num_train_epochs,
        max_steps=section.max_steps,
        seed=section.seed,
        packing=packing,
    )


def plan_facts(plan: WindowPlan) -> dict[str, Any]:
    """Steps, and how full packed rows are, for ``kft check``."""
    facts: dict[str, Any] = {
        "steps_per_epoch": plan.steps_per_epoch,
        "total_steps": plan.total_steps,
        "micro_batches_per_epoch": -(-plan.num_rows // plan.rows_per_batch),
    }
    if plan.packing is not None:
        facts |= {"packed_rows": len(plan.packing), "fill_rate": plan.packing.fill_rate}
    return facts


def first_rows(
    recipe: Recipe, task: Task, examples: Sequence[Example], number: int
) -> list[list[Example]]:
    """The first ``number`` rows as they enter the model.

    Single ones in the file's order; packed ones in that of the first steps, their documents
    longest first.
    """
    if not (number and wants_packing(recipe, task)):
        return [[example] for example in examples[:number]]
    plan = window_plan(recipe, examples, packed=True)
    rows = (row for step in range(1, plan.steps_per_epoch + 1) for row in plan.rows(step))
    return [sorted((examples[one] for one in row), key=length_key) for row in islice(rows, number)]
