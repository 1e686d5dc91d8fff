"""Whether a run learnt too little, too much or well, from its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from kft.evaluation.intervals import Outcome

FitName = Literal["overfitting", "underfitting", "good fit", "not enough evaluations"]
Signal = Literal[
    "rise", "gap", "diverged", "lost", "unmoved", "unlearnt", "falling", "settled", "few", "none"
]
"""What a verdict rests on: evaluation loss rose, a score is higher on training rows, both losses
rose, the loss never came back to where it began, hardly anything moved, not even the training rows
are known, the loss was still falling, it fell and stayed; or there are too few evaluations, or
none."""

Curve = Sequence[tuple[int, float]]
"""Pairs of step and loss, in the order of the steps."""

FEWEST_EVALUATIONS = 3
"""Evaluations while training without which a curve has no shape."""

RISE = 0.02
"""Evaluation loss is up when it ends this share above its best ..."""

RISE_OF_START = 0.005
"""... and by this share of the loss it began with: near 0 every share is large."""

GAIN = 0.01
"""A best loss less than this share below where it began is no gain."""

STILL_FALLING = 0.05
"""Evaluation loss that fell by this share in its last third was still going down."""

SCORE_GAP = 0.10
"""Accuracy, F1 or R² this much higher on the training rows than on held-out rows is learnt by
heart."""


LEAST_LEARNT = 0.10
"""A score on training rows that goes less than this share of the way from what costs nothing to
1 shows nothing learnt."""


@dataclass(frozen=True)
class ScoreGap:
    """One metric on rows of training and on held-out rows, higher being better.

    Args:
        name: Of the metric, as it should be printed.
        train: On rows that were trained on.
        evaluation: On held-out rows.
        baseline: What costs nothing to score on the training rows: always answering the
            commonest label, or the mean; ``None`` where that isn't known.
    """

    name: str
    train: float
    evaluation: float
    baseline: float | None = None

    @property
    def is_learnt(self) -> bool:
        """Whether the score on training rows is worth more than the baseline."""
        if self.baseline is None or self.baseline >= 1:
            return True
        return (self.train - self.baseline) / (1 - self.baseline) >= LEAST_LEARNT


@dataclass(frozen=True)
class Verdict:
    """What the curves say.

    Args:
        name: ``overfitting``, ``underfitting``, ``good fit`` or ``not enough evaluations``.
        reason: One sentence with the numbers it rests on.
        best_step: Step of the smallest evaluation loss; ``None`` without any.
        signal: Which of the signs it was, for those who say it in another language.
        numbers: What the sentence holds, by name.
    """

    name: FitName
    reason: str
    best_step: int | None
    signal: Signal = field(default="none", compare=False)
    numbers: Mapping[str, float | str] = field(default_factory=dict, compare=False)


def fit_verdict(
    train_curve: Curve,
    eval_curve: Curve,
    base: float | None = None,
    *,
    scores: Sequence[ScoreGap] = (),
) -> Verdict:
    """Name a run's fit.

    In this order: overfitting, if evaluation loss rose from its best by :data:`RISE` while
    training loss fell, or a score is :data:`SCORE_GAP` higher on training rows; underfitting, if
    the best loss is no :data:`GAIN`, if both losses rose (the run diverged), if a score is not
    even on training rows worth more than its baseline, or if evaluation loss was
    :data:`STILL_FALLING` when training stopped; else a good fit. A score needs no curve;
    everything else needs :data:`FEWEST_EVALUATIONS`.

    Args:
        train_curve: Training loss, raw: it is averaged over a tenth of the points here.
        eval_curve: Evaluation loss in the same unit.
        base: Evaluation loss before training; ``None`` takes the first evaluation's.
        scores: The task's metrics on rows of training and held-out rows, where both are known.

    Example:
        >>> falling = [(step, 3 - step / 100) for step in range(1, 101)]
        >>> verdict = fit_verdict(falling, [(25, 2.8), (50, 2.6), (75, 2.7), (100, 2.9)], 3.0)
        >>> verdict.name, verdict.best_step
        ('overfitting', 50)
    """
    finite = [(step, loss) for step, loss in eval_curve if isfinite(loss)]
    best_step, best = min(finite, key=lambda point: point[1], default=(None, float("nan")))
    learnt = _by_heart(scores, best_step)
    if len(finite) < FEWEST_EVALUATIONS or best_step is None:
        return learnt or _unlearnt(scores, best_step) or _too_few(len(finite), best_step)
    start = base if base is not None else finite[0][1]
    last = finite[-1][1]
    numbers = {"start": start, "best": best, "best_step": best_step, "last": last}
    has_risen = last > best * (1 + RISE) and last - best > RISE_OF_START * start
    train_change = _change_after(train_curve, best_step)
    rise = f"Evaluation loss rose from {best:.4g} at step {best_step} to {last:.4g}"
    if has_risen and train_change <= 0:
        told = f"{rise} while training loss fell."
        return Verdict("overfitting", told, best_step, "rise", numbers)
    if learnt is not None:
        return learnt
    if has_risen:
        diverged = f"{rise}, and training loss rose too: the run diverged."
        return Verdict("underfitting", diverged, best_step, "diverged", numbers)
    too_little = _unlearnt(scores, best_step) or _too_little(finite, start, best_step, best)
    return too_little or Verdict(
        "good fit",
        f"Evaluation loss fell from {start:.4g} to {best:.4g} at step {best_step} and stayed.",
        best_step,
        "settled",
        numbers,
    )


def _by_heart(scores: Sequence[ScoreGap], best_step: int | None) -> Verdict | None:
    """Overfitting, if a score is much higher on training rows."""
    for score in scores:
        if score.train - score.evaluation >= SCORE_GAP:
            gap = f"{score.name} is {score.train:.3g} on training rows and {score.evaluation:.3g} "
            numbers: dict[str, float | str] = {
                "score": score.name,
                "train": score.train,
                "evaluation": score.evaluation,
            }
            return Verdict("overfitting", f"{gap}on held-out rows.", best_step, "gap", numbers)
    return None


def _unlearnt(scores: Sequence[ScoreGap], best_step: int | None) -> Verdict | None:
    """Underfitting, if a score on training rows is what costs nothing."""
    for score in scores:
        if not score.is_learnt and score.baseline is not None:
            numbers: dict[str, float | str] = {
                "score": score.name,
                "train": score.train,
                "baseline": score.baseline,
            }
            told = f"{score.name} is {score.train:.3g} on training rows, where "
            told += f"{score.baseline:.3g} costs nothing: hardly anything was learnt."
            return Verdict("underfitting", told, best_step, "unlearnt", numbers)
    return None


def _too_few(num: int, best_step: int | None) -> Verdict:
    if num == 0:
        none = "No evaluation was made while training: `evaluate.eval_steps` sets how often."
        return Verdict("not enough evaluations", none, None)
    few = f"{num} evaluations show no curve; {FEWEST_EVALUATIONS} are needed."
    if num == 1:
        few = f"One evaluation shows no curve; {FEWEST_EVALUATIONS} are needed."
    numbers = {"evaluations": num, "needed": FEWEST_EVALUATIONS}
    return Verdict("not enough evaluations", few, best_step, "few", numbers)


def _too_little(finite: Curve, start: float, best_step: int, best: float) -> Verdict | None:
    """Underfitting, if the evaluations show it."""
    before, last = finite[-1 - max(1, len(finite) // 3)][1], finite[-1][1]
    numbers = {"start": start, "best": best, "before": before, "last": last}
    if best - start > GAIN * start:
        lost = f"Evaluation loss was never as low as at the start: {start:.4g}, then {best:.4g}"
        lost += " at best. A smaller learning rate loses less of what was known."
        return Verdict("underfitting", lost, best_step, "lost", numbers)
    if start - best < GAIN * start:
        unmoved = f"Evaluation loss hardly moved: {start:.4g} at the start, {best:.4g} at best."
        return Verdict("underfitting", unmoved, best_step, "unmoved", numbers)
    if last == best and before - last > STILL_FALLING * before:
        falling = f"from {before:.4g} to {last:.4g} in the last third"
        reason = f"Evaluation loss was still falling when training stopped: {falling}."
        return Verdict("underfitting", reason, best_step, "falling", numbers)
    return None


def _change_after(curve: Curve, step: int) -> float:
    """How far training loss is from where it was at ``step``; 0 where nothing is known."""
    losses = [loss for _, loss in curve if isfinite(loss)]
    width = max(1, len(losses) // 10)
    earlier = [loss for place, loss in curve if place <= step and isfinite(loss)][-width:]
    later = losses[-width:]
    if not earlier or not later:
        return 0.0
    return sum(later) / len(later) - sum(earlier) / len(earlier)


def noise_sentence(name: str, outcome: Outcome, num_rows: int) -> str:
    """What an interval says of one metric, for a report's headline.

    Example:
        >>> noise_sentence("accuracy", "within noise", 200)
        'accuracy: the difference is within noise on 200 rows'
    """
    if outcome == "within noise":
        return f"{name}: the difference is within noise on {num_rows:,} rows"
    return f"{name}: {outcome} on {num_rows:,} rows"
