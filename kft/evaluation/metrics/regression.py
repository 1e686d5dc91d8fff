"""Metrics of numbers against true numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kft.evaluation.metrics.statistic import Array, SumStatistic, divide, mean_statistic

ROUNDING = 1e-12
"""A spread below this share of the squares is rounding: the numbers are all equal."""


def squared_errors(predicted: ArrayLike, truths: ArrayLike) -> SumStatistic:
    """Mean squared error, in the square of the truths' unit.

    Args:
        predicted: One finite number per row.
        truths: The true one of each row.

    Raises:
        ValueError: If the two differ in length, or a number isn't finite.
    """
    guesses, true = _columns(predicted, truths)
    return mean_statistic((guesses - true) ** 2)


def absolute_errors(predicted: ArrayLike, truths: ArrayLike) -> SumStatistic:
    """Mean absolute error, in the truths' unit; arguments as :func:`squared_errors`."""
    guesses, true = _columns(predicted, truths)
    return mean_statistic(np.abs(guesses - true))


def r_squared(predicted: ArrayLike, truths: ArrayLike) -> SumStatistic:
    """R², the coefficient of determination: 1 is perfect, 0 is the mean of these truths.

    ``1 - sum (y - f)² / sum (y - mean y)²`` over the given rows; below 0 the predictions are
    worse than that mean. It is not the square of Pearson's correlation: a shifted or stretched
    prediction loses here and not there. NaN where it is undefined: fewer than two rows, or
    truths that are all equal.

    Args:
        predicted: One finite number per row.
        truths: The true one of each row.

    Raises:
        ValueError: If the two differ in length, or a number isn't finite.

    Source:
        Kvålseth 1985, "Cautionary Note about R²", eq. 1.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(r_squared([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]))     # 1 - 1 / 2
        0.5
    """
    guesses, true = _columns(predicted, truths)
    centred = _centred(true)
    rows = np.column_stack([np.ones_like(true), centred, centred**2, (guesses - true) ** 2])
    return SumStatistic(rows, _r_squared)


def _r_squared(sums: Array) -> Array:
    rows, total, squares, errors = np.moveaxis(sums, -1, 0)
    return 1 - divide(errors, _spread(rows, total, squares) / np.maximum(rows, 1), empty=np.nan)


def pearson(predicted: ArrayLike, truths: ArrayLike) -> SumStatistic:
    """Pearson's correlation; NaN where either side's numbers are all equal.

    Args:
        predicted: One finite number per row.
        truths: The true one of each row.

    Raises:
        ValueError: If the two differ in length, or a number isn't finite.
    """
    guesses, true = (_centred(column) for column in _columns(predicted, truths))
    rows = np.column_stack([np.ones_like(true), guesses, true, guesses**2, true**2, guesses * true])
    return SumStatistic(rows, _pearson)


def _pearson(sums: Array) -> Array:
    rows, first, second, first_squares, second_squares, products = np.moveaxis(sums, -1, 0)
    covariance = rows * products - first * second
    spreads = _spread(rows, first, first_squares) * _spread(rows, second, second_squares)
    return np.clip(divide(covariance, np.sqrt(spreads), empty=np.nan), -1, 1)


@dataclass(frozen=True)
class Spearman:
    """Spearman's rank correlation: Pearson's of the ranks, equal numbers sharing their mean rank.

    NaN where either side's numbers are all equal.

    Args:
        predicted: One finite number per row.
        truths: The true one of each row.

    Raises:
        ValueError: If the two differ in length, or a number isn't finite.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(Spearman([1.0, 10.0, 100.0], [0.1, 0.2, 0.3]))
        1.0
    """

    predicted: ArrayLike
    truths: ArrayLike

    def __post_init__(self) -> None:
        _columns(self.predicted, self.truths)

    @property
    def num_rows(self) -> int:
        """Rows there are."""
        return len(np.asarray(self.truths))

    def of(self, counts: Array) -> Array:
        """The correlation for each of several selections of rows, (R, rows) -> (R,)."""
        first, second = (
            _ranks(np.asarray(column, dtype=float), counts)
            for column in (self.predicted, self.truths)
        )
        total = counts.sum(axis=1, keepdims=True)
        middle = (total + 1) / 2  # the mean of the ranks 1 to total
        first, second = first - middle, second - middle
        products = (counts * first * second).sum(axis=1)
        spreads = (counts * first**2).sum(axis=1) * (counts * second**2).sum(axis=1)
        return np.clip(divide(products, np.sqrt(spreads), empty=np.nan), -1, 1)


def _ranks(column: Array, counts: Array) -> Array:
    """Each row's rank among the rows taken, (rows,), (R, rows) -> (R, rows)."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # where a new number begins
    tied = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, different numbers)
    shared = np.cumsum(tied, axis=1) - (tied - 1) / 2
    which = np.empty(len(column), dtype=np.int64)
    which[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(column)]))
    return shared[:, which]


def _columns(predicted: ArrayLike, truths: ArrayLike) -> tuple[Array, Array]:
    guesses: NDArray[np.float64] = np.asarray(predicted, dtype=float)
    true: NDArray[np.float64] = np.asarray(truths, dtype=float)
    if guesses.shape != true.shape or true.ndim != 1:
        raise ValueError(f"predictions of shape {guesses.shape} for truths of shape {true.shape}")
    if not (np.isfinite(guesses).all() and np.isfinite(true).all()):
        raise ValueError("a prediction or a truth is not a finite number")
    return guesses, true


def _centred(column: Array) -> Array:
    """The column about its mean, so that squares of large numbers don't lose their digits."""
    if not len(column):
        return column
    shifted = column - column[0]  # equal numbers become exactly 0
    centred: Array = shifted - shifted.mean()
    return centred


def _spread(rows: Array, total: Array, squares: Array) -> Array:
    """Rows times the sum of squares about the mean; exactly 0 for equal numbers."""
    spread = rows * squares - total**2
    return np.where(spread > ROUNDING * rows * squares, spread, 0.0)
