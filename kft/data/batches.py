"""Examples -> micro-batches -> windows: which rows each optimizer step averages over.

The order is a pure function of the seed and the step, so a run can go on from any step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kft.data.packing import Packing
from kft.data.table import Chosen
from kft.tasks.task import Batch, Example, Window

Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class WindowPlan:
    """The optimizer steps of a run and the rows of each.

    Args:
        num_examples: Examples there are.
        rows_per_batch: Rows of a micro-batch, at most: examples, or packed rows of several.
        batches_per_window: Micro-batches of a window on all ranks together, at most.
        num_train_epochs: Passes over the examples; may be a fraction.
        max_steps: Replaces ``num_train_epochs`` when given.
        seed: Every epoch has its own order, drawn from this.
        packing: How examples share rows; ``None``: each is a row of its own.
    """

    num_examples: int
    rows_per_batch: int
    batches_per_window: int
    num_train_epochs: float
    max_steps: int | None
    seed: int
    packing: Packing | None = None
    _last_epoch: dict[int, Sequence[Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return self.num_examples if self.packing is None else len(self.packing)

    @property
    def rows_per_window(self) -> int:
        """Rows of a full window; an epoch's last window may have fewer."""
        return self.rows_per_batch * self.batches_per_window

    @property
    def steps_per_epoch(self) -> int:
        """Windows of one epoch."""
        return math.ceil(self.num_rows / self.rows_per_window)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.steps_per_epoch * self.num_train_epochs))

    def rows(self, step: int) -> list[list[int]]:
        """The examples of each row of the ``step``-th window, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        order = self._order(epoch)
        start = position * self.rows_per_window
        stop = min(start + self.rows_per_window, len(order))
        return [[int(example) for example in order[row]] for row in range(start, stop)]

    def _order(self, epoch: int) -> Sequence[Any]:
        """The epoch's rows in their order, kept until another epoch's are asked for."""
        if epoch not in self._last_epoch:
            self._last_epoch.clear()
            order = epoch_order(self.num_rows, self.seed, epoch)
            rows: Any = order.reshape(-1, 1)
            if self.packing is not None:
                rows = Chosen(self.packing.epoch(self.seed, epoch), order)
            self._last_epoch[epoch] = rows
        return self._last_epoch[epoch]


def epoch_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the rows, int64 (num_rows,), from the seed and the epoch's number."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


@dataclass(frozen=True)
class Share:
    """Which micro-batches of a window are a rank's own: every ``ranks``-th, from ``rank`` on.

    The window is cut in the same way however many ranks there are, and its longest micro-batches
    are dealt out first, so that ranks wait little for each other.

    Args:
        rank: Counted from 0.
        ranks: How many there are.
        even: All of them need equally many, because they compute each together.

    Example:
        >>> [Share(rank, 2).of(["long", "middle", "short"]) for rank in (0, 1)]
        [['long', 'short'], ['middle']]
        >>> [Share(rank, 2, even=even).spares(3) for rank in (0, 1) for even in (False, True)]
        [0, 0, 0, 1]
    """

    rank: int = 0
    ranks: int = 1
    even: bool = False

    def spares(self, num_parts: int) -> int:
        """Micro-batches that a rank computes although nothing of them counts."""
        own = len(range(self.rank, num_parts, self.ranks))
        needed = -(-num_parts // self.ranks) if self.even else 1
        return max(needed - own, 0)

    def of(self, parts: Sequence[Any]) -> list[Any]:
        """A rank's own parts."""
        return list(parts[self.rank :: self.ranks])


ALL = Share()
"""The share of a run's only process."""


def make_windows(
    examples: Sequence[Example],
    plan: WindowPlan,
    collate: Collate,
    first_step: int = 1,
    share: Share = ALL,
    rows_per_batch: int | None = None,
) -> Iterator[Window]:
    """The windows of a run from ``first_step`` on, in order.

    Where each example is a row of its own, a window's rows are sorted by length before they are
    cut into micro-batches: that changes no sum, and saves most of the padding.

    Args:
        examples: The training examples.
        plan: Which of them belong to which step.
        collate: Makes one batch of a few examples, longest first.
        first_step: Counted from 1; later than 1 when a run goes on.
        share: A rank's part of each window. Where none is left for it, or too few, it has spare
            batches of the shortest example.
        rows_per_batch: Cuts the same windows into smaller micro-batches than the plan's.
    """
    for step in range(first_step, plan.total_steps + 1):
        parts = list(window_parts(examples, plan, step, rows_per_batch))
        own = [collate(part) for part in share.of(parts)]
        for _ in range(share.spares(len(parts))):
            own.append(replace(collate(parts[-1][-1:]), is_spare=True))
        yield own


def window_parts(
    examples: Sequence[Example], plan: WindowPlan, step: int, rows_per_batch: int | None = None
) -> Iterator[list[Example]]:
    """The examples of each micro-batch of a window; arguments as of :func:`make_windows`."""
    rows = plan.rows(step)
    size = rows_per_batch or plan.rows_per_batch
    if plan.packing is None:
        return by_length([examples[row[0]] for row in rows], size)
    return packed_parts(examples, rows, size)


def by_length(examples: Sequence[Example], rows_per_batch: int) -> Iterator[list[Example]]:
    """Parts of at most ``rows_per_batch`` examples of similar length, longest first.

    The longest part comes first, so that a run which does not fit in memory fails at once.
    """
    ordered = sorted(examples, key=length_key)
    for start in range(0, len(ordered), rows_per_batch):
        yield ordered[start : start + rows_per_batch]


def packed_parts(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], rows_per_batch: int
) -> Iterator[list[Example]]:
    """The examples of ``rows_per_batch`` packed rows at a time, longest first."""
    for start in range(0, len(rows), rows_per_batch):
        part = [examples[one] for row in rows[start : start + rows_per_batch] for one in row]
        yield sorted(part, key=length_key)


def length_key(example: Example) -> tuple[int, int]:
    """Sorts longest first, and documents that attend alike side by side."""
    return -len(example.input_ids), -(example.prompt_length or 0)


def hold_out(
    num_examples: int, fraction: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into training and held-out ones, each int64 and in file order.

    At least one row is held out and one is left, when ``fraction`` is above 0 and there are two.

    Args:
        num_examples: Rows.
        fraction: Share to hold out.
        seed: The same seed and number of rows give the same split.
        labels: int64 (rows,): each label is held out in its share, to a row or two; ``None``
            where rows have none.

    Example:
        >>> train, held_out = hold_out(10, 0.2, seed=0)
        >>> len(train), len(held_out), sorted([*train, *held_out]) == list(range(10))
        (8, 2, True)
    """
    if fraction == 0 or num_examples < 2:
        return np.arange(num_examples), np.arange(0)
    num_held_out = min(max(1, round(num_examples * fraction)), num_examples - 1)
    order = np.random.default_rng([seed, num_examples]).permutation(num_examples)
    if labels is not None:
        order = _spread_by_label(order, labels)
    return np.sort(order[num_held_out:]), np.sort(order[:num_held_out])


def _spread_by_label(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows in an order of whose every beginning has each label in its share."""
    _, group, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    by_group = np.argsort(group, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(order))
    rank[by_group] = np.arange(len(order)) - starts[group[by_group]]
    return order[np.argsort((rank + 0.5) / counts[group], kind="stable")]
