"""Base against tuned: the difference of each metric, and whether it is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kft.errors import counted
from kft.evaluation.fit import noise_sentence
from kft.evaluation.intervals import Interval, Outcome, metric_interval, paired_metric_interval
from kft.evaluation.metrics.registry import METRICS
from kft.evaluation.metrics.statistic import Statistic, value

FEWEST_ROWS = 10
_Z = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""
"""Below so many rows resampling promises too much."""


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same rows.

    Args:
        difference: Tuned minus base.
        low: Lower end of the 95 % bootstrap interval.
        high: Its upper end.
        outcome: What the interval says; ``None`` where neither way is better.
        num_rows: Rows that were resampled, in pairs.
    """

    difference: float
    low: float
    high: float
    outcome: Outcome | None
    num_rows: int


def compare(
    base: Mapping[str, Statistic], tuned: Mapping[str, Statistic], *, seed: int = 0
) -> dict[str, Difference]:
    """Paired bootstrap intervals of every metric that two models share.

    Args:
        base: The first model's metrics.
        tuned: The second model's, over the same rows in the same order.
        seed: Of the draws.

    Returns:
        Name -> difference; without metrics of fewer than :data:`FEWEST_ROWS` rows.
    """
    found = {}
    for name, statistic in base.items():
        if name not in tuned or statistic.num_rows < FEWEST_ROWS:
            continue
        interval = paired_metric_interval(statistic, tuned[name], seed=seed)
        found[name] = Difference(
            interval.difference,
            interval.low,
            interval.high,
            _outcome(interval, METRICS[name].higher_is_better),
            statistic.num_rows,
        )
    return found


def _outcome(interval: Interval, higher_is_better: bool | None) -> Outcome | None:
    if higher_is_better is None or math.isnan(interval.low):
        return None
    return interval.outcome(higher_is_better=higher_is_better)


def free_score(name: str, result: Mapping[str, Any]) -> float | None:
    """What a metric would be without looking at the rows; ``None`` where that isn't known.

    Args:
        name: Of the metric.
        result: The numbers of a model on the rows, with ``majority_accuracy`` of labels.

    Example:
        >>> free_score("r2", {}), free_score("accuracy", {"majority_accuracy": 0.6})
        (0.0, 0.6)
    """
    if name == "r2":
        return 0.0
    found: float | None = result.get("majority_accuracy") if name == "accuracy" else None
    return found


def headline(
    name: str, differences: Mapping[str, Difference], tuned: Statistic, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Whether training helped, by one metric.

    Args:
        name: The metric.
        differences: As :func:`compare` found them.
        tuned: The tuned model's metric.
        result: The tuned model's numbers.

    Returns:
        ``metric``, ``outcome`` (``None`` where nothing can be said) and ``sentence``; where
        always giving the same answer would score something, also ``free`` (that score) and
        ``is_above_free`` (whether the tuned model is above it by more than both their doubts).
    """
    found, num_rows = differences.get(name), tuned.num_rows
    outcome = found.outcome if found else None
    told: dict[str, Any] = {"metric": name, "outcome": outcome}
    if outcome is not None:
        told["sentence"] = noise_sentence(name, outcome, num_rows)
    elif num_rows < FEWEST_ROWS:
        are = f"{counted(num_rows, 'row')} {'is' if num_rows == 1 else 'are'}"
        told["sentence"] = f"{name}: {are} too few to tell a difference from noise"
    else:
        told["sentence"] = f"{name}: undefined on {counted(num_rows, 'row')}"
    free = free_score(name, result)
    if found is None or free is None:
        return told
    low, high = metric_interval(tuned)
    # How often one label occurs in so few rows is chance as well; the two are taken as independent.
    doubt = _Z * math.sqrt(free * (1 - free) / num_rows) if name == "accuracy" else 0.0
    score = value(tuned)
    is_above = score - free > math.hypot(score - low, doubt)
    told |= {"free": free, "is_above_free": is_above}
    if not is_above:
        but = "but" if outcome == "better" else "and"
        how = "and below" if high < free else f"{but} not clearly above"
        told["sentence"] += f", {how} {free:.4g}, which always giving the same answer would score"
    return told
