"""Metrics of numbers, by hand and against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from kft.evaluation.metrics.regression import (
    Spearman,
    absolute_errors,
    pearson,
    r_squared,
    squared_errors,
)
from kft.evaluation.metrics.statistic import value


def test_by_hand() -> None:
    predicted, true = [1.0, 2.0, 4.0, 4.0], [1.0, 2.0, 3.0, 6.0]
    # Errors 0, 0, 1, -2; the truths' mean is 3, their squares about it 4 + 1 + 0 + 9.
    assert value(squared_errors(predicted, true)) == pytest.approx(5 / 4)
    assert value(absolute_errors(predicted, true)) == pytest.approx(3 / 4)
    assert value(r_squared(predicted, true)) == pytest.approx(1 - 5 / 14)
    # Ranks 1, 2, 3.5, 3.5 and 1, 2, 3, 4 about 2.5: products 4.5, spreads 4.5 and 5.
    assert value(Spearman(predicted, true)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    # About the means 2.75 and 3: products 6.5... -1.75*-2 + -.75*-1 + 0 + 1.25*3 = 8.
    assert value(pearson(predicted, true)) == pytest.approx(8 / math.sqrt(6.75 * 14))


def test_the_mean_of_the_truths_has_r2_0_and_worse_is_below() -> None:
    true = [1.0, 2.0, 6.0]
    assert value(r_squared([3.0, 3.0, 3.0], true)) == pytest.approx(0.0)
    assert value(r_squared([6.0, 2.0, 1.0], true)) < 0


def test_r2_is_not_the_square_of_the_correlation() -> None:
    true = np.arange(10.0)
    assert value(pearson(true + 5, true)) == pytest.approx(1.0)
    assert value(r_squared(true + 5, true)) == pytest.approx(1 - 25 / 8.25)


@pytest.mark.parametrize("seed", range(8))
def test_random_numbers_agree_with_the_references(seed: int) -> None:
    generator = np.random.default_rng(seed)
    true = generator.normal(1000.0 * seed, 1.5, 250)
    predicted = true + generator.normal(0.3, 1.0, 250)
    if seed % 2:
        true, predicted = true.round(), predicted.round()  # many ties
    assert value(squared_errors(predicted, true)) == pytest.approx(
        reference.mean_squared_error(true, predicted)
    )
    assert value(absolute_errors(predicted, true)) == pytest.approx(
        reference.mean_absolute_error(true, predicted)
    )
    assert value(r_squared(predicted, true)) == pytest.approx(reference.r2_score(true, predicted))
    assert value(pearson(predicted, true)) == pytest.approx(stats.pearsonr(predicted, true)[0])
    assert value(Spearman(predicted, true)) == pytest.approx(stats.spearmanr(predicted, true)[0])


def test_a_selection_is_ranked_as_the_rows_it_takes() -> None:
    generator = np.random.default_rng(3)
    predicted, true = generator.integers(0, 6, (2, 40)).astype(float)
    counts = generator.multinomial(40, [1 / 40] * 40, 5).astype(float)
    for taken, ours in zip(counts, Spearman(predicted, true).of(counts), strict=True):
        rows = np.repeat(np.arange(40), taken.astype(int))
        assert ours == pytest.approx(stats.spearmanr(predicted[rows], true[rows])[0])


@pytest.mark.parametrize("constant", [3.0, 0.1, 1e9 + 0.1])
def test_equal_truths_leave_it_undefined(constant: float) -> None:
    true, predicted = [constant] * 3, [1.0, 2.0, 3.0]
    for statistic in (pearson(predicted, true), r_squared(predicted, true)):
        assert math.isnan(value(statistic))
    assert math.isnan(value(Spearman(predicted, true)))
    assert math.isnan(value(pearson(true, predicted)))


def test_one_row_has_no_r2() -> None:
    assert math.isnan(value(r_squared([1.0], [2.0])))


@pytest.mark.parametrize("metric", [squared_errors, absolute_errors, r_squared, pearson, Spearman])
def test_wrong_numbers_are_refused(metric: type[Spearman]) -> None:
    with pytest.raises(ValueError, match="of shape"):
        metric([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="not a finite number"):
        metric([1.0, math.nan], [1.0, 2.0])
