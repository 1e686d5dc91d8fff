"""Base against tuned: the difference of each metric, and whether it is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kft.evaluation.fit import noise_sentence
from kft.evaluation.intervals import Interval, Outcome, paired_metric_interval
from kft.evaluation.metrics.registry import METRICS
from kft.evaluation.metrics.statistic import Statistic

FEWEST_ROWS = 10
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


def headline(name: str, differences: Mapping[str, Difference], num_rows: int) -> dict[str, Any]:
    """Whether training helped, by one metric.

    Args:
        name: The metric.
        differences: As :func:`compare` found them.
        num_rows: Held-out rows, for the sentence where they are too few.

    Returns:
        ``metric``, ``outcome`` (``None`` where nothing can be said) and ``sentence``.
    """
    found = differences.get(name)
    if found is None and num_rows < FEWEST_ROWS:
        sentence = f"{name}: {num_rows} rows are too few to tell a difference from noise"
        return {"metric": name, "outcome": None, "sentence": sentence}
    if found is None or found.outcome is None:
        sentence = f"{name}: undefined on {num_rows:,} rows"
        return {"metric": name, "outcome": None, "sentence": sentence}
    sentence = noise_sentence(name, found.outcome, found.num_rows)
    return {"metric": name, "outcome": found.outcome, "sentence": sentence}
