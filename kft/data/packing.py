"""Best-fit packing: which rows share a packed row of ``max_length`` tokens.

Rows of equal length are interchangeable, so what is packed are lengths: the longest first, each
into the fullest row that still has room for it. That gives every epoch the same number of packed
rows, and it costs O(n) beside sorting; each epoch draws anew which row takes which place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Indices = np.ndarray
"""int64: numbers of rows."""


class Packing:
    """Packed rows of at most ``capacity`` tokens, from the rows' lengths.

    Args:
        lengths: Tokens of each row, at least 1 each; int (n,).
        capacity: Tokens of a packed row, at most.

    Raises:
        ValueError: If a row is longer than ``capacity`` or empty.

    Source:
        Best-fit decreasing: Johnson et al. 1974, "Worst-Case Performance Bounds for Simple
        One-Dimensional Packing Algorithms"; for language models Ding et al. 2024, "Fewer
        Truncations Improve Language Modeling", section 3.

    Example:
        >>> packing = Packing([5, 2, 3, 4, 1], capacity=6)
        >>> [sorted(int(row) for row in packed) for packed in packing.epoch(seed=0, epoch=0)]
        [[0, 4], [1, 3], [2]]
        >>> round(packing.fill_rate, 3)
        0.833
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, capacity: int) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if len(self._lengths) and not 1 <= self._lengths.min() <= self._lengths.max() <= capacity:
            raise ValueError(f"rows of 1 to {capacity} tokens can be packed")
        self.capacity = capacity
        place = _places(np.bincount(self._lengths, minlength=capacity + 1), capacity)
        # Where the rows of each packed row stand among all, sorted by falling length.
        self._order = np.argsort(place, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(place))]).astype(np.int64)

    def __len__(self) -> int:
        """Number of packed rows; the same in every epoch."""
        return len(self._starts) - 1 if len(self._lengths) else 0

    @property
    def fill_rate(self) -> float:
        """Share of the packed rows' room that tokens fill."""
        return float(self._lengths.sum() / (len(self) * self.capacity)) if len(self) else 1.0

    def epoch(self, seed: int, epoch: int) -> PackedRows:
        """An epoch's packed rows, a pure function of the seed and the epoch's number."""
        shuffled = np.random.default_rng([seed, epoch]).permutation(len(self._lengths))
        by_length = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
        return PackedRows(by_length[self._order], self._starts)


class PackedRows(Sequence[Indices]):
    """The rows of each packed row, longest first; made from two arrays when asked for."""

    def __init__(self, rows: Indices, starts: Indices) -> None:
        self._rows = rows
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Indices:  # type: ignore[override] # no slices of it
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._rows[self._starts[number] : self._starts[number + 1]]


def _places(counts: np.ndarray, capacity: int) -> np.ndarray:
    """The packed row of each row, in order of falling length; int64 (n,).

    Args:
        counts: Number of rows of each length, from 0 to ``capacity``.
        capacity: Tokens of a packed row, at most.
    """
    open_rows: list[list[np.ndarray]] = [[] for _ in range(capacity + 1)]  # by the room left
    room = 0  # bit r: there are packed rows with room for r tokens
    num_rows = 0
    placed = [np.zeros(0, dtype=np.int64)]
    for length in range(capacity, 0, -1):
        left = int(counts[length])
        while left:
            fitting = room >> length
            if fitting:
                free = length + (fitting & -fitting).bit_length() - 1  # the least that suffices
                rows = np.concatenate(open_rows[free])
                open_rows[free] = []
                room &= ~(1 << free)
            else:
                free = capacity
                wanted = -(-left // (capacity // length))
                rows = np.arange(num_rows, num_rows + wanted)
                num_rows += wanted
            taken, left, rest = _fill(rows, free // length, left)
            placed += taken
            for used, filled in rest:
                remaining = free - used * length
                if len(filled) and remaining:
                    open_rows[remaining].append(filled)
                    room |= 1 << remaining
    return np.concatenate(placed)


def _fill(
    rows: np.ndarray, each: int, left: int
) -> tuple[list[np.ndarray], int, list[tuple[int, np.ndarray]]]:
    """Put ``left`` pieces into packed rows that take ``each`` of them.

    Returns:
        The packed row of each piece, the pieces that are left, and groups of packed rows by how
        many pieces they took.
    """
    full = min(len(rows), left // each)
    taken = [np.repeat(rows[:full], each)]
    left -= full * each
    groups = [(each, rows[:full])]
    rows = rows[full:]
    if left and len(rows):  # the last one takes fewer
        taken.append(np.repeat(rows[:1], left))
        groups.append((left, rows[:1]))
        rows, left = rows[1:], 0
    return taken, left, [*groups, (0, rows)]
