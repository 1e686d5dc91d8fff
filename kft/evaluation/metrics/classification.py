"""Metrics of labels: one label per row, or several.

All are functions of three counts per label: rows that have it rightly, rows that were given it,
rows that truly have it. Undefined quotients (nothing given, nothing true) count as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kft.evaluation.metrics.statistic import Array, SumStatistic, divide, mean_statistic


@dataclass(frozen=True)
class LabelScore:
    """How well one label was found.

    Args:
        precision: Rightly given over given.
        recall: Rightly given over true.
        f1: Their harmonic mean.
        support: Rows that truly have it.
    """

    precision: float
    recall: float
    f1: float
    support: int


def label_rows(predicted: ArrayLike, labels: ArrayLike, num_labels: int) -> Array:
    """What each row adds to the counts of each label.

    Args:
        predicted: Index of each row's predicted label.
        labels: Index of each row's true label.
        num_labels: Labels there are.

    Returns:
        float64 (rows, 3 * num_labels): right, given, true; each for all labels.

    Raises:
        ValueError: If the two differ in length, or an index is not of a label.
    """
    guesses, truths = _indices(predicted, num_labels), _indices(labels, num_labels)
    if len(guesses) != len(truths):
        raise ValueError(f"{len(guesses)} predictions for {len(truths)} labels")
    one_hot = np.eye(num_labels)
    given, true = one_hot[guesses], one_hot[truths]
    return np.hstack([given * true, given, true])


def multilabel_rows(predicted: ArrayLike, labels: ArrayLike) -> Array:
    """The same where a row may have several labels or none.

    Args:
        predicted: 0 or 1, (rows, labels).
        labels: The truth in the same form.

    Raises:
        ValueError: If the two differ in shape, or hold other numbers.
    """
    given, true = np.asarray(predicted, dtype=float), np.asarray(labels, dtype=float)
    if given.shape != true.shape or given.ndim != 2:
        raise ValueError(f"predictions of shape {given.shape} for labels of shape {true.shape}")
    if not (np.isin(given, (0, 1)).all() and np.isin(true, (0, 1)).all()):
        raise ValueError("a row of several labels holds a 0 or a 1 for each label")
    return np.hstack([given * true, given, true])


def f1_per_label(sums: Array) -> Array:
    """F1 of each label, (..., 3 * labels) -> (..., labels); 0 where it is undefined."""
    right, given, true = np.split(sums, 3, axis=-1)
    return divide(2 * right, given + true, empty=0.0)


def macro_f1(sums: Array) -> Array:
    """Mean of the labels' F1; a label that never occurs counts with 0."""
    f1 = f1_per_label(sums)
    return divide(f1.sum(axis=-1), np.asarray(f1.shape[-1]), empty=0.0)


def micro_f1(sums: Array) -> Array:
    """F1 of the labels' counts together; equals accuracy where each row has one label."""
    right, given, true = (part.sum(axis=-1) for part in np.split(sums, 3, axis=-1))
    return divide(2 * right, given + true, empty=0.0)


def weighted_f1(sums: Array) -> Array:
    """Mean of the labels' F1, weighted by how many rows truly have each."""
    true = np.split(sums, 3, axis=-1)[2]
    return divide((f1_per_label(sums) * true).sum(axis=-1), true.sum(axis=-1), empty=0.0)


def matthews(sums: Array) -> Array:
    """Matthews' correlation coefficient for any number of labels; 0 where it is undefined.

    Source:
        Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
        coefficient", eq. 8; as in scikit-learn's ``matthews_corrcoef``.
    """
    right, given, true = np.split(sums, 3, axis=-1)
    rows = true.sum(axis=-1)
    covariance = right.sum(axis=-1) * rows - (given * true).sum(axis=-1)
    spread_given = rows**2 - (given**2).sum(axis=-1)
    spread_true = rows**2 - (true**2).sum(axis=-1)
    return divide(covariance, np.sqrt(spread_given * spread_true), empty=0.0)


LABEL_SCORES: dict[str, Callable[[Array], Array]] = {
    "accuracy": micro_f1,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "weighted_f1": weighted_f1,
    "matthews": matthews,
}
"""Metrics of one label per row, as functions of the sums of :func:`label_rows`."""


def label_statistic(
    name: str, predicted: ArrayLike, labels: ArrayLike, num_labels: int
) -> SumStatistic:
    """One of :data:`LABEL_SCORES` over rows with one label each.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(label_statistic("accuracy", [0, 1, 1, 1], [0, 1, 0, 1], 2))
        0.75
    """
    return SumStatistic(label_rows(predicted, labels, num_labels), LABEL_SCORES[name])


def multilabel_statistic(name: str, predicted: ArrayLike, labels: ArrayLike) -> SumStatistic:
    """``macro_f1``, ``micro_f1`` or ``weighted_f1`` where a row may have several labels.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(multilabel_statistic("micro_f1", [[1, 0], [1, 1]], [[1, 0], [0, 1]]))
        0.8
    """
    return SumStatistic(multilabel_rows(predicted, labels), LABEL_SCORES[name])


def multilabel_exact_match(predicted: ArrayLike, labels: ArrayLike) -> SumStatistic:
    """Share of rows whose labels are all right, and no other was given."""
    rows = multilabel_rows(predicted, labels)
    right, given, true = (part.sum(axis=1) for part in np.split(rows, 3, axis=1))
    return mean_statistic((right == given) & (right == true))


def scores_per_label(rows: Array) -> list[LabelScore]:
    """Precision, recall, F1 and support of each label, in the labels' order.

    Args:
        rows: As :func:`label_rows` or :func:`multilabel_rows` made them.
    """
    sums = rows.sum(axis=0)
    right, given, true = np.split(sums, 3)
    columns = (
        divide(right, given, empty=0.0),
        divide(right, true, empty=0.0),
        f1_per_label(sums),
    )
    return [
        LabelScore(float(precision), float(recall), float(f1), int(support))
        for precision, recall, f1, support in zip(*columns, true, strict=True)
    ]


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, num_labels: int) -> NDArray[np.int64]:
    """Rows by true label (down) and predicted label (across): int64 (labels, labels).

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 1, 0], 2).tolist()
        [[1, 1], [0, 1]]
    """
    guesses, truths = _indices(predicted, num_labels), _indices(labels, num_labels)
    matrix = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(matrix, (truths, guesses), 1)
    return matrix


def majority_accuracy(labels: Sequence[int]) -> float:
    """What always answering the commonest of these labels would score.

    Example:
        >>> majority_accuracy([0, 2, 2, 1])
        0.5
    """
    if len(labels) == 0:
        raise ValueError("a majority needs at least one label")
    return float(np.unique(np.asarray(labels), return_counts=True)[1].max() / len(labels))


def _indices(labels: ArrayLike, num_labels: int) -> NDArray[np.int64]:
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise ValueError("labels are indices, one for each row")
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < num_labels):
        raise ValueError(f"a label's index lies outside 0 to {num_labels - 1}")
    return numbers.astype(np.int64)
