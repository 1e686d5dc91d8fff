"""Over- and underfitting on curves that were made to show one or the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kft.evaluation.fit import ScoreGap, Verdict, fit_verdict, noise_sentence

STEPS = range(1, 401)
EVALUATED = range(50, 401, 50)


def falling_train(to: float = 0.5, noise: float = 0.3) -> list[tuple[int, float]]:
    """From 3 down to `to`, as noisy as raw losses of single steps are."""
    generator = np.random.default_rng(0)
    return [(s, to + (3 - to) * math.exp(-s / 80) + generator.normal(0, noise)) for s in STEPS]


def evaluated(losses: list[float]) -> list[tuple[int, float]]:
    return list(zip(EVALUATED, losses, strict=True))


U_SHAPE = evaluated([2.5, 2.2, 2.0, 1.9, 1.95, 2.05, 2.2, 2.4])
SETTLED = evaluated([2.5, 2.2, 2.0, 1.9, 1.86, 1.84, 1.83, 1.83])


def test_evaluation_loss_that_turns_up_is_overfitting() -> None:
    verdict = fit_verdict(falling_train(), U_SHAPE, 3.0)
    assert verdict == Verdict(
        "overfitting",
        "Evaluation loss rose from 1.9 at step 200 to 2.4 while training loss fell.",
        200,
    )


def test_a_curve_that_settles_is_a_good_fit() -> None:
    verdict = fit_verdict(falling_train(1.7), SETTLED, 3.0)
    assert verdict.name == "good fit"
    assert verdict.reason == "Evaluation loss fell from 3 to 1.83 at step 350 and stayed."
    assert verdict.best_step == 350


@pytest.mark.parametrize(("last", "name"), [(1.859, "good fit"), (1.88, "overfitting")])
def test_a_rise_counts_from_2_percent(last: float, name: str) -> None:
    curve = [*SETTLED[:-1], (400, last)]  # 1.83 * 1.02 is 1.8666
    assert fit_verdict(falling_train(), curve, 3.0).name == name


def test_a_rise_near_0_is_measured_by_where_it_began() -> None:
    curve = evaluated([0.5, 0.1, 0.02, 0.01, 0.01, 0.012, 0.013, 0.014])  # 40 % of nothing
    assert fit_verdict(falling_train(0.0), curve, 3.0).name == "good fit"


def test_a_loss_that_never_moves_is_underfitting() -> None:
    verdict = fit_verdict([(s, 3.0) for s in STEPS], evaluated([2.99, 2.98] * 4), 3.0)
    assert verdict.name == "underfitting"
    assert verdict.reason == "Evaluation loss hardly moved: 3 at the start, 2.98 at best."


def test_a_loss_that_never_comes_back_to_where_it_began_is_told() -> None:
    verdict = fit_verdict(falling_train(6.0), evaluated([6.9, 6.7] * 4), 6.1)
    assert verdict.name == "underfitting"
    assert verdict.signal == "lost"
    assert verdict.reason.startswith(
        "Evaluation loss was never as low as at the start: 6.1, then 6.7 at best."
    )


@pytest.mark.parametrize(("best", "signal"), [(6.15, "unmoved"), (6.17, "lost")])
def test_a_loss_is_lost_from_a_hundredth_on(best: float, signal: str) -> None:
    assert fit_verdict(falling_train(6.0), evaluated([best] * 8), 6.1).signal == signal


def test_a_loss_that_is_still_falling_is_underfitting() -> None:
    verdict = fit_verdict(falling_train(), evaluated([2.9, 2.7, 2.5, 2.3, 2.1, 1.9, 1.7, 1.5]), 3.0)
    assert verdict.name == "underfitting"
    assert "still falling when training stopped: from 1.9 to 1.5" in verdict.reason
    assert verdict.best_step == 400


def test_both_losses_rising_is_no_overfitting() -> None:
    train = [(s, abs(s - 200) / 100) for s in STEPS]
    verdict = fit_verdict(train, U_SHAPE, 3.0)
    assert verdict.name == "underfitting"
    assert "the run diverged" in verdict.reason


def test_a_score_learnt_by_heart_is_overfitting() -> None:
    gap = ScoreGap("R²", train=0.97, evaluation=0.62)
    verdict = fit_verdict(falling_train(1.7), SETTLED, 3.0, scores=[gap])
    assert verdict.name == "overfitting"
    assert verdict.reason == "R² is 0.97 on training rows and 0.62 on held-out rows."
    close = ScoreGap("accuracy", train=0.91, evaluation=0.88)
    assert fit_verdict(falling_train(1.7), SETTLED, 3.0, scores=[close]).name == "good fit"


def test_a_score_that_costs_nothing_is_underfitting() -> None:
    mean = ScoreGap("R²", train=0.03, evaluation=0.01, baseline=0.0)
    verdict = fit_verdict(falling_train(1.7), SETTLED, 3.0, scores=[mean])
    assert verdict.name == "underfitting"
    assert verdict.reason == (
        "R² is 0.03 on training rows, where 0 costs nothing: hardly anything was learnt."
    )
    assert fit_verdict([], [], scores=[mean]).name == "underfitting"
    rare = ScoreGap("accuracy", train=0.97, evaluation=0.96, baseline=0.95)  # 40 % of the way
    assert fit_verdict(falling_train(1.7), SETTLED, 3.0, scores=[rare]).name == "good fit"


def test_a_score_learnt_by_heart_needs_no_curve() -> None:
    gap = ScoreGap("accuracy", train=0.99, evaluation=0.7, baseline=0.5)
    assert fit_verdict([], [(10, 1.0)], scores=[gap]).name == "overfitting"


@pytest.mark.parametrize("curve", [[], U_SHAPE[:2], [(50, math.nan), (100, 2.0), (150, 1.0)]])
def test_too_few_evaluations_are_no_curve(curve: list[tuple[int, float]]) -> None:
    assert fit_verdict(falling_train(), curve, 3.0).name == "not enough evaluations"


def test_the_best_step_is_named_also_without_a_verdict() -> None:
    assert fit_verdict([], U_SHAPE[:2]).best_step == 100
    assert fit_verdict([], []).best_step is None


def test_without_a_base_the_first_evaluation_is_the_start() -> None:
    assert fit_verdict(falling_train(1.7), SETTLED).reason.startswith(
        "Evaluation loss fell from 2.5"
    )


def test_without_a_training_curve_a_rise_is_overfitting() -> None:
    assert fit_verdict([], U_SHAPE, 3.0).name == "overfitting"


def test_noise_is_said() -> None:
    assert noise_sentence("r2", "within noise", 1234) == (
        "r2: the difference is within noise on 1,234 rows"
    )
    assert noise_sentence("chrf", "better", 50) == "chrf: better on 50 rows"
