"""Examples -> micro-batches -> windows: which rows each optimizer step averages over.

The order is a pure function of the seed and the step, so a run can go on from any step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kft.tasks.task import Batch, Example, Window

Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class WindowPlan:
    """The optimizer steps of a run and the rows of each.

    A window's rows are sorted by length before they are cut into micro-batches. That changes
    no sum, and saves most of the padding.

    Args:
        num_examples: Rows there are.
        rows_per_batch: Rows of a micro-batch, at most.
        batches_per_window: Micro-batches of a window, at most.
        num_train_epochs: Passes over the rows; may be a fraction.
        max_steps: Replaces ``num_train_epochs`` when given.
        seed: Every epoch has its own order, drawn from this.
    """

    num_examples: int
    rows_per_batch: int
    batches_per_window: int
    num_train_epochs: float
    max_steps: int | None
    seed: int

    @property
    def rows_per_window(self) -> int:
        """Rows of a full window; an epoch's last window may have fewer."""
        return self.rows_per_batch * self.batches_per_window

    @property
    def steps_per_epoch(self) -> int:
        """Windows of one epoch."""
        return math.ceil(self.num_examples / self.rows_per_window)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.steps_per_epoch * self.num_train_epochs))

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of the ``step``-th window, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        order = epoch_order(self.num_examples, self.seed, epoch)
        start = position * self.rows_per_window
        return [int(row) for row in order[start : start + self.rows_per_window]]


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the rows, int64 (num_examples,), from the seed and the epoch's number."""
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def make_windows(
    examples: Sequence[Example], plan: WindowPlan, collate: Collate, first_step: int = 1
) -> Iterator[Window]:
    """The windows of a run from ``first_step`` on, in order.

    Args:
        examples: The training rows.
        plan: Which rows belong to which step.
        collate: Pads a few examples to one batch.
        first_step: Counted from 1; later than 1 when a run goes on.
    """
    for step in range(first_step, plan.total_steps + 1):
        rows = [examples[row] for row in plan.rows(step)]
        yield [collate(part) for part in by_length(rows, plan.rows_per_batch)]


def by_length(examples: Sequence[Example], rows_per_batch: int) -> Iterator[list[Example]]:
    """Parts of at most ``rows_per_batch`` examples of similar length, longest first.

    The longest part comes first, so that a run which does not fit in memory fails at once.
    """
    ordered = sorted(examples, key=lambda example: -len(example.input_ids))
    for start in range(0, len(ordered), rows_per_batch):
        yield ordered[start : start + rows_per_batch]


def hold_out(num_examples: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split row numbers into training and held-out ones, each in file order.

    At least one row is held out and one is left, when ``fraction`` is above 0 and there are two.

    Example:
        >>> train, held_out = hold_out(10, 0.2, seed=0)
        >>> len(train), len(held_out), sorted(train + held_out) == list(range(10))
        (8, 2, True)
    """
    if fraction == 0 or num_examples < 2:
        return list(range(num_examples)), []
    num_held_out = min(max(1, round(num_examples * fraction)), num_examples - 1)
    order = np.random.default_rng([seed, num_examples]).permutation(num_examples)
    held_out = sorted(int(row) for row in order[:num_held_out])
    return sorted(int(row) for row in order[num_held_out:]), held_out
