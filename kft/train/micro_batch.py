"""The largest micro-batch of a run, from the lengths of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kft.data.batches import epoch_order
from kft.train.memory import MicroBatch

_EPOCHS = 3
"""Epochs whose order is looked at."""


@dataclass(frozen=True)
class Lengths:
    """How long rows are.

    Args:
        tokens: Of each training row, int64 (n,).
        targets: Tokens of each that have a target, int64 (n,).
        held_out: Tokens of each held-out row, int64 (m,).
    """

    tokens: np.ndarray
    targets: np.ndarray
    held_out: np.ndarray

    def cut(self, limit: int) -> Lengths:
        """The same with rows of at most ``limit`` tokens; what is cut off are targets first."""
        over = np.maximum(self.tokens - limit, 0)
        return Lengths(
            np.minimum(self.tokens, limit),
            np.maximum(self.targets - over, 0),
            np.minimum(self.held_out, limit),
        )


def largest_batch(
    lengths: Lengths, rows: int, accumulation: int, seed: int, *, padded: bool
) -> MicroBatch:
    """The micro-batch with the most tokens, where each example is a row of its own.

    A window's rows are sorted by length before they are cut, so it is its window's first. The
    windows of the first epochs are looked at, in the order in which they will come.

    Args:
        lengths: Of the rows.
        rows: Of a micro-batch.
        accumulation: Micro-batches of a window.
        seed: The run's.
        padded: All rows are as long as the longest.
    """
    number = len(lengths.tokens)
    size = max(1, min(rows * accumulation, number))  # a window has no more rows than there are
    best = MicroBatch(0, 0)
    for epoch in range(_EPOCHS):
        order = epoch_order(number, seed, epoch)
        order = np.concatenate([order, np.full(-number % size, -1)])  # -1: no row
        windows = order.reshape(-1, size)
        tokens = np.where(windows >= 0, lengths.tokens[windows], 0)
        first = np.argsort(-tokens, axis=1, kind="stable")[:, :rows]
        sums = np.take_along_axis(tokens, first, 1).sum(1)
        if padded:
            sums = tokens.max(1) * np.minimum((windows >= 0).sum(1), rows)
        window = int(sums.argmax())
        if sums[window] > best.tokens:
            chosen = windows[window][first[window]]
            targets = lengths.targets[chosen[chosen >= 0]].sum()
            best = MicroBatch(int(sums[window]), int(targets))
    return best


def packed_batch(lengths: Lengths, rows: int, capacity: int) -> MicroBatch:
    """A micro-batch of full packed rows, or all the tokens there are where these are fewer."""
    total = int(lengths.tokens.sum())
    tokens = min(total, rows * capacity)
    return MicroBatch(tokens, round(tokens * float(lengths.targets.sum()) / max(total, 1)))


def largest_evaluation(lengths: Lengths, rows: int) -> int:
    """Tokens of the largest evaluation batch, which has the longest rows."""
    return int(np.sort(lengths.held_out)[::-1][:rows].sum())
