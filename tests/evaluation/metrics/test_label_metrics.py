"""Metrics of labels, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from kft.evaluation.metrics.classification import (
    LABEL_SCORES,
    confusion_matrix,
    label_rows,
    label_statistic,
    majority_accuracy,
    multilabel_exact_match,
    multilabel_rows,
    multilabel_statistic,
    scores_per_label,
)
from kft.evaluation.metrics.statistic import value

PREDICTED, TRUE = [0, 0, 1, 1, 1], [0, 1, 1, 1, 0]


def test_by_hand() -> None:
    # Label 0: one right, two given, two true: F1 2/4. Label 1: two right, three, three: 4/6.
    scores = {name: value(label_statistic(name, PREDICTED, TRUE, 2)) for name in LABEL_SCORES}
    assert scores["accuracy"] == scores["micro_f1"] == pytest.approx(3 / 5)
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["weighted_f1"] == pytest.approx((2 * 1 / 2 + 3 * 2 / 3) / 5)
    # (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2), from the four cells of two labels
    assert scores["matthews"] == pytest.approx(1 / 6)


def test_each_label_by_hand() -> None:
    first, second = scores_per_label(label_rows(PREDICTED, TRUE, 2))
    assert (first.precision, first.recall, first.f1, first.support) == (0.5, 0.5, 0.5, 2)
    assert (second.precision, second.recall, second.support) == (2 / 3, 2 / 3, 3)
    assert confusion_matrix(PREDICTED, TRUE, 2).tolist() == [[1, 1], [1, 2]]


@pytest.mark.parametrize("seed", range(8))
def test_one_label_agrees_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    num_labels = int(generator.integers(2, 9))
    true = generator.integers(0, num_labels, 300)
    predicted = np.where(generator.random(300) < 0.6, true, generator.integers(0, num_labels, 300))
    if seed % 2:
        predicted[predicted == num_labels - 1] = 0  # a label that is never given
    labels = list(range(num_labels))

    def ours(name: str) -> float:
        return value(label_statistic(name, predicted, true, num_labels))

    assert ours("accuracy") == pytest.approx(reference.accuracy_score(true, predicted))
    assert ours("matthews") == pytest.approx(reference.matthews_corrcoef(true, predicted))
    for average in ("macro", "micro", "weighted"):
        theirs = reference.f1_score(
            true, predicted, labels=labels, average=average, zero_division=0
        )
        assert ours(f"{average}_f1") == pytest.approx(theirs)
    theirs = reference.precision_recall_fscore_support(
        true, predicted, labels=labels, zero_division=0
    )
    mine = scores_per_label(label_rows(predicted, true, num_labels))
    assert (
        pytest.approx(np.array(theirs))
        == np.array([(s.precision, s.recall, s.f1, s.support) for s in mine]).T
    )
    matrix = reference.confusion_matrix(true, predicted, labels=labels)
    assert (confusion_matrix(predicted, true, num_labels) == matrix).all()


@pytest.mark.parametrize("seed", range(4))
def test_several_labels_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    true = (generator.random((200, 5)) < 0.3).astype(int)
    predicted = np.where(generator.random(true.shape) < 0.9, true, 1 - true)
    for average in ("macro", "micro", "weighted"):
        theirs = reference.f1_score(true, predicted, average=average, zero_division=0)
        ours = value(multilabel_statistic(f"{average}_f1", predicted, true))
        assert ours == pytest.approx(theirs)
    exact = value(multilabel_exact_match(predicted, true))
    assert exact == pytest.approx(reference.accuracy_score(true, predicted))
    assert 0.3 < exact < 0.9


def test_a_label_that_never_occurs_counts_with_0() -> None:
    assert value(label_statistic("macro_f1", [0, 1], [0, 1], 3)) == pytest.approx(2 / 3)


def test_one_label_only_has_no_correlation() -> None:
    assert value(label_statistic("matthews", [1, 1, 1], [0, 1, 1], 2)) == 0
    assert reference.matthews_corrcoef([0, 1, 1], [1, 1, 1]) == 0


def test_the_majority() -> None:
    assert majority_accuracy([2, 2, 0, 1, 2]) == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="at least one"):
        majority_accuracy([])


@pytest.mark.parametrize(
    ("predicted", "labels", "message"),
    [
        ([0], [0, 1], "1 predictions for 2 labels"),
        ([0, 2], [0, 1], "outside 0 to 1"),
        ([0, -1], [0, 1], "outside 0 to 1"),
        ([0.5, 1.0], [0, 1], "are indices"),
    ],
)
def test_wrong_labels_are_refused(predicted: list[int], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_rows(predicted, labels, 2)


def test_wrong_rows_of_several_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="of shape"):
        multilabel_rows([[0, 1]], [[0, 1, 1]])
    with pytest.raises(ValueError, match="a 0 or a 1"):
        multilabel_rows([[0.3, 1]], [[0, 1]])


def test_no_rows_are_no_metric() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        value(label_statistic("accuracy", [], [], 2))
