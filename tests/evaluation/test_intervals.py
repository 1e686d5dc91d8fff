"""Bootstrap intervals: the same as the plain loop, quick, and as sure as they say."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from kft.evaluation.intervals import (
    Interval,
    metric_interval,
    paired_interval,
    paired_metric_interval,
)
from kft.evaluation.metrics.classification import label_statistic
from kft.evaluation.metrics.entities import entity_f1
from kft.evaluation.metrics.regression import Spearman, pearson, r_squared, squared_errors
from kft.evaluation.metrics.statistic import RowFunction, Statistic, value


def test_it_equals_the_plain_loop() -> None:
    generator = np.random.default_rng(1)
    base, tuned = generator.exponential(2.0, (2, 50))
    weights = generator.integers(1, 9, 50).astype(float)
    interval = paired_interval(base, tuned, weights, num_resamples=200, seed=7)
    draws = np.random.default_rng(7)
    means = []
    for _ in range(200):
        rows = draws.integers(0, 50, 50)
        means.append((tuned[rows] - base[rows]).sum() / weights[rows].sum())
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_many_rows_are_drawn_a_few_resamples_at_a_time() -> None:
    numbers = np.arange(150_000) / 150_000
    interval = paired_interval(np.zeros(150_000), numbers, num_resamples=60)
    assert interval.difference == pytest.approx(0.5, abs=1e-4)
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.005


def macro_f1_of(predicted: np.ndarray, true: np.ndarray) -> Statistic:
    return label_statistic("macro_f1", predicted, true, 3)


def entity_f1_of(predicted: np.ndarray, true: np.ndarray) -> Statistic:
    names = ["O", "B-PS", "B-LC"]
    given, actual = ([[names[tag]] for tag in tags] for tags in (predicted, true))
    return entity_f1(given, actual, average="macro")


@pytest.mark.parametrize("metric", [macro_f1_of, entity_f1_of, pearson, r_squared, Spearman])
def test_a_metric_of_the_sample_equals_computing_it_for_each_resample(
    metric: Callable[[np.ndarray, np.ndarray], Statistic],
) -> None:
    generator = np.random.default_rng(2)
    true = generator.integers(0, 3, 60)
    base, tuned = (
        np.where(generator.random(60) < share, true, generator.integers(0, 3, 60))
        for share in (0.4, 0.7)
    )

    def plain(predicted: np.ndarray) -> RowFunction:
        return RowFunction(60, lambda rows: value(metric(predicted[rows], true[rows])))

    ours = paired_metric_interval(metric(base, true), metric(tuned, true), num_resamples=150)
    loop = paired_metric_interval(plain(base), plain(tuned), num_resamples=150)
    assert (ours.difference, ours.low, ours.high) == pytest.approx(
        (loop.difference, loop.low, loop.high)
    )
    assert ours.difference > 0


def test_2000_rows_take_well_under_a_second() -> None:
    generator = np.random.default_rng(3)
    true = generator.normal(size=2000)
    base, tuned = (true + generator.normal(size=2000) for _ in range(2))
    started = time.perf_counter()
    paired_interval(base, tuned)
    paired_metric_interval(r_squared(base, true), r_squared(tuned, true))
    assert time.perf_counter() - started < 2.0  # 0.1 s on an idle core


def test_a_metric_that_is_mostly_undefined_has_no_interval() -> None:
    true = [1.0, 2.0]  # every other resample takes one of them twice
    low, high = metric_interval(pearson([1.0, 2.0], true))
    assert np.isnan(low)
    assert np.isnan(high)
    assert not Interval(0.5, low, high).is_clear


def test_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows for one model, 3 for the other"):
        paired_metric_interval(pearson([1, 2], [1, 2]), pearson([1, 2, 3], [1, 2, 3]))


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "outcome"),
    [
        (0.1, 0.3, True, "better"),
        (0.1, 0.3, False, "worse"),
        (-0.3, -0.1, False, "better"),
        (-0.3, -0.1, True, "worse"),
        (-0.1, 0.3, True, "within noise"),
        (0.0, 0.0, True, "within noise"),
        (float("nan"), float("nan"), True, "within noise"),
    ],
)
def test_outcomes(low: float, high: float, outcome: str, *, higher_is_better: bool) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert interval.outcome(higher_is_better=higher_is_better) == outcome


NUM_ROWS = 250


def mean_draw(generator: np.random.Generator, seed: int, resamples: int) -> tuple[Interval, float]:
    """Nats of rows, which are skewed; the tuned model is better by 0.1 on average."""
    base = generator.exponential(2.0, NUM_ROWS)
    tuned = base + generator.normal(-0.1, 0.5, NUM_ROWS)
    return paired_interval(base, tuned, num_resamples=resamples, seed=seed), -0.1


def accuracy_draw(
    generator: np.random.Generator, seed: int, resamples: int
) -> tuple[Interval, float]:
    """Two models that are right on 70 % and on 80 % of the rows."""
    base, tuned = (generator.random(NUM_ROWS) < share for share in (0.7, 0.8))
    return paired_interval(base, tuned, num_resamples=resamples, seed=seed), 0.1


def macro_f1_draw(
    generator: np.random.Generator, seed: int, resamples: int
) -> tuple[Interval, float]:
    """Three labels of 50, 30 and 20 %; models that guess evenly where they don't know."""
    shares = np.array([0.5, 0.3, 0.2])
    true = generator.choice(3, NUM_ROWS, p=shares)

    def answers(known: float) -> np.ndarray:
        guess = generator.integers(0, 3, NUM_ROWS)
        return np.where(generator.random(NUM_ROWS) < known, true, guess)

    def macro_f1(known: float) -> float:
        right = shares * (known + (1 - known) / 3)
        given = shares * known + (1 - known) / 3
        return float((2 * right / (given + shares)).mean())

    base, tuned = (label_statistic("macro_f1", answers(known), true, 3) for known in (0.6, 0.7))
    interval = paired_metric_interval(base, tuned, num_resamples=resamples, seed=seed)
    return interval, macro_f1(0.7) - macro_f1(0.6)


def regression_draw(
    metric: Callable[[np.ndarray, np.ndarray], Statistic],
    truth: Callable[[float], float],
    generator: np.random.Generator,
    seed: int,
    resamples: int,
) -> tuple[Interval, float]:
    """Truths of variance 1; predictions are off by normal noise of 0.8 and of 0.6."""
    true = generator.normal(size=NUM_ROWS)
    base, tuned = (metric(true + generator.normal(0, s, NUM_ROWS), true) for s in (0.8, 0.6))
    interval = paired_metric_interval(base, tuned, num_resamples=resamples, seed=seed)
    return interval, truth(0.6) - truth(0.8)


def covered(
    draw: Callable[[np.random.Generator, int, int], tuple[Interval, float]],
    *,
    trials: int,
    resamples: int,
) -> float:
    """Share of simulated evaluations whose interval holds the true difference."""
    generator = np.random.default_rng(20261125)
    held = 0
    for trial in range(trials):
        interval, truth = draw(generator, trial, resamples)
        held += interval.low <= truth <= interval.high
    return held / trials


def pearson_draw(
    generator: np.random.Generator, seed: int, resamples: int
) -> tuple[Interval, float]:
    return regression_draw(pearson, lambda s: (1 + s**2) ** -0.5, generator, seed, resamples)


def r2_draw(generator: np.random.Generator, seed: int, resamples: int) -> tuple[Interval, float]:
    return regression_draw(r_squared, lambda s: 1 - s**2, generator, seed, resamples)


def error_draw(generator: np.random.Generator, seed: int, resamples: int) -> tuple[Interval, float]:
    return regression_draw(squared_errors, lambda s: s**2, generator, seed, resamples)


DRAWS = [mean_draw, accuracy_draw, macro_f1_draw, pearson_draw, r2_draw, error_draw]


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS)
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent(
    draw: Callable[[np.random.Generator, int, int], tuple[Interval, float]],
) -> None:
    assert 0.93 <= covered(draw, trials=1000, resamples=1000) <= 0.97


@pytest.mark.parametrize("draw", [mean_draw, macro_f1_draw])
def test_95_percent_intervals_are_about_right(
    draw: Callable[[np.random.Generator, int, int], tuple[Interval, float]],
) -> None:
    assert 0.91 <= covered(draw, trials=200, resamples=300) <= 0.99


def test_an_interval_half_as_wide_would_be_noticed() -> None:
    def narrow(generator: np.random.Generator, seed: int, resamples: int) -> tuple[Interval, float]:
        interval, truth = mean_draw(generator, seed, resamples)
        middle = (interval.low + interval.high) / 2
        quarter = (interval.high - interval.low) / 4
        return Interval(interval.difference, middle - quarter, middle + quarter), truth

    assert covered(narrow, trials=200, resamples=300) < 0.85
