"""The metrics by the names a recipe uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kft.errors import RecipeError, name_list, nearest_name
from kft.evaluation.metrics.entries import MetricEntry, metric_entries
from kft.evaluation.metrics.statistic import Statistic, value

METRICS: dict[str, MetricEntry] = {entry.name: entry for entry in metric_entries()}
"""Every metric by its name."""


def find_metric(name: str, *, where: str | None = None) -> MetricEntry:
    """The metric of that name.

    Args:
        name: As a recipe writes it.
        where: Place of the name, for the message.

    Raises:
        RecipeError: If there is none.
    """
    if name in METRICS:
        return METRICS[name]
    guess = nearest_name(name, METRICS)
    raise RecipeError(
        f"Unknown metric `{name}`",
        where=where,
        expected=f"one of {name_list(list(METRICS), limit=8)}",
        hint=f"Did you mean `{guess}`?" if guess else None,
    )


def compute_metrics(names: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, float]:
    """Several metrics of the same rows.

    Args:
        names: Of metrics.
        inputs: By name what any of them needs; each takes its own.

    Raises:
        RecipeError: If there is no such metric.
        ValueError: If an input that one needs isn't there, or inputs don't fit each other.

    Example:
        >>> compute_metrics(["r2", "pearson"], {"predictions": [1, 3], "references": [1, 2]})
        {'r2': -1.0, 'pearson': 1.0}
    """
    return {name: value(metric_statistic(name, inputs)) for name in names}


def metric_statistic(name: str, inputs: Mapping[str, Any]) -> Statistic:
    """One metric over the rows, ready to be resampled; raises as :func:`compute_metrics`."""
    entry = find_metric(name)
    missing = [needed for needed in entry.inputs if needed not in inputs]
    if missing:
        there = name_list(list(inputs)) or "none"
        raise ValueError(f"`{name}` needs {name_list(missing)}; there are {there}")
    return entry.statistic(**{needed: inputs[needed] for needed in entry.inputs})
