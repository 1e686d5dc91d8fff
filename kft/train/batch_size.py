"""How many rows of a micro-batch fit into memory, and how many ``auto`` takes."""

from __future__ import annotations

from collections.abc import Callable

from kft.train.memory import MemoryPlan

SHARE = 0.9
"""Of the memory there is, the share that a plan may fill: it may be wrong by a tenth."""
MOST_ROWS = 64
"""Rows of a micro-batch that ``auto`` chooses at most: more of them are no faster."""
FEWEST_STEPS = 100
"""Optimizer steps that ``auto`` leaves a run, where there are rows enough for them."""


def fits(plan: MemoryPlan, free_bytes: int) -> bool:
    """Whether a plan needs no more than :data:`SHARE` of what there is.

    Args:
        plan: What is needed, with what the process holds already.
        free_bytes: What is free beside that.
    """
    return plan.total <= SHARE * (plan.process + free_bytes)


def largest_rows(plan_of: Callable[[int], MemoryPlan], free_bytes: int, most: int) -> int:
    """The largest number of rows, up to ``most``, with which a run fits; 0 when none does.

    Args:
        plan_of: The plan for a number of rows; needs no less for more of them.
        free_bytes: As for :func:`fits`.
        most: At least 1.

    Example:
        >>> from types import SimpleNamespace
        >>> def plan_of(rows):
        ...     return SimpleNamespace(total=100 + 10 * rows, process=100)
        >>> largest_rows(plan_of, free_bytes=100, most=64)  # 0.9 of 200 is 180
        8
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(plan_of(middle), free_bytes):
            low = middle
        else:
            high = middle - 1
    return low


def automatic_rows(
    largest: int, num_rows: int, *, accumulation: int, epochs: float, max_steps: int | None
) -> int:
    """What ``train.per_device_train_batch_size: auto`` becomes.

    The largest power of two that fits, is at most :data:`MOST_ROWS`, and leaves the run at least
    :data:`FEWEST_STEPS` steps, or with ``max_steps`` no more of an epoch in a step than it has
    rows for; at least 1. A power of two, so that a little more or less free memory does not
    make another run of it.

    Args:
        largest: That fits, from :func:`largest_rows`.
        num_rows: Rows of an epoch, packed ones where they are packed.
        accumulation: Micro-batches of a step.
        epochs: Passes over the rows.
        max_steps: Steps of the run, when the recipe says so.

    Example:
        >>> automatic_rows(50, 10_000, accumulation=1, epochs=3, max_steps=None)
        32
        >>> automatic_rows(50, 400, accumulation=1, epochs=3, max_steps=None)  # 1,200 / 100
        8
    """
    used = num_rows * epochs / FEWEST_STEPS if max_steps is None else num_rows
    most = min(largest, MOST_ROWS, int(used / accumulation))
    return 1 << max(most, 1).bit_length() - 1
