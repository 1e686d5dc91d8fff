"""A metric as resampling sees it: a number of any selection of the rows, many at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Statistic(Protocol):
    """A number of rows, each of which may be taken any number of times."""

    @property
    def num_rows(self) -> int:
        """Rows there are."""
        ...

    def of(self, counts: Array) -> Array:
        """The number for each of several selections.

        Args:
            counts: float64 (R, rows): how often each selection takes each row.

        Returns:
            float64 (R,); NaN where the number is undefined.
        """
        ...


@dataclass(frozen=True)
class SumStatistic:
    """A number that depends on the rows only through sums over them, as most metrics do.

    Args:
        rows: float64 (rows, k): what each row adds to each of ``k`` sums.
        score: From sums (..., k) to the number (...).

    Example:
        >>> rows = np.array([[1.0, 1], [3.0, 1]])
        >>> mean = SumStatistic(rows, lambda sums: sums[..., 0] / sums[..., 1])
        >>> mean.of(np.array([[1.0, 1], [2.0, 0]])).tolist()
        [2.0, 1.0]
    """

    rows: Array
    score: Callable[[Array], Array]

    @property
    def num_rows(self) -> int:
        """Rows there are."""
        return len(self.rows)

    def of(self, counts: Array) -> Array:
        """The number for each of several selections, (R, rows) -> (R,)."""
        return self.score(counts @ self.rows)


@dataclass(frozen=True)
class RowFunction:
    """Any other number of the rows: computed once for each selection, so slower.

    Args:
        num_rows: Rows there are.
        function: From row numbers, int64 (taken,), to the number.
    """

    num_rows: int
    function: Callable[[NDArray[np.int64]], float]

    def of(self, counts: Array) -> Array:
        """The number for each of several selections, (R, rows) -> (R,)."""
        rows = np.arange(self.num_rows)
        return np.array([self.function(np.repeat(rows, taken)) for taken in counts.astype(int)])


def value(statistic: Statistic) -> float:
    """The number of all rows, each taken once.

    Raises:
        ValueError: If there are no rows.
    """
    if statistic.num_rows == 0:
        raise ValueError("a metric needs at least one row")
    if isinstance(statistic, SumStatistic):  # rounded once: the same on every machine
        return float(statistic.score(np.array([math.fsum(column) for column in statistic.rows.T])))
    return float(statistic.of(np.ones((1, statistic.num_rows)))[0])


def mean_statistic(numbers: ArrayLike, weights: ArrayLike | None = None) -> SumStatistic:
    """Sum of ``numbers`` over the sum of ``weights``: a mean, or a loss per target.

    Args:
        numbers: One of each row.
        weights: What each row's number is divided by (its targets); ``None`` is 1.
    """
    column = np.asarray(numbers, dtype=float)
    divisors = np.ones_like(column) if weights is None else np.asarray(weights, dtype=float)
    return SumStatistic(np.column_stack([column, divisors]), first_over_second)


def first_over_second(sums: Array) -> Array:
    """The first sum over the second; infinite or NaN where the second is 0."""
    return divide(sums[..., 0], sums[..., 1], empty=np.nan)


def divide(numerator: Array, denominator: Array, *, empty: float) -> Array:
    """The quotient, ``empty`` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    )
    quotient = np.full(numerator.shape, float(empty))
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
