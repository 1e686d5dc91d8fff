"""Values of a sweep's trials drawn by optuna, so that a sweep that goes on draws the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kft.api.optional import optional_module
from kft.api.sweep_space import Range, Space, Values, number_text

Sampler = Literal["tpe", "random"]

_TRIES = 50
"""Draws until one is new; then there is hardly a combination left."""


class Drawing:
    """Draws the values of one trial after the other.

    optuna's sampler is made anew for each draw, from the seed and the draw's number: what is
    drawn depends on what is known so far and on nothing else.

    Args:
        space: What varies.
        sampler: ``tpe`` (a tree-structured Parzen estimator: where good trials were) or
            ``random``.
        seed: Of the draws.
        higher_is_better: Whether the metric is to grow.

    Raises:
        UsageError: If optuna isn't installed.

    Source:
        Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4.
    """

    def __init__(
        self, space: Space, sampler: Sampler, *, seed: int, higher_is_better: bool
    ) -> None:
        self._optuna = optional_module("optuna", extra="sweep", wanted_by="--trials")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._direction = "maximize" if higher_is_better else "minimize"
        self._distributions = {key: self._distribution(axis) for key, axis in space.axes.items()}

    def draw(self, known: Sequence[tuple[Values, float | None]]) -> Values | None:
        """The next trial's values.

        Args:
            known: The values of all trials so far, with the metric of those that have one.

        Returns:
            Values that no trial has had; ``None`` when none could be found.
        """
        study = self._optuna.create_study(direction=self._direction)
        for values, metric in known:
            study.add_trial(self._told(values, metric))
        had = [values for values, _ in known]
        for attempt in range(_TRIES):
            study.sampler = self._make_sampler(len(known) * _TRIES + attempt)
            values = self._texts(study.ask(self._distributions).params)
            if values not in had:
                return values
        return None

    def _make_sampler(self, number: int) -> Any:
        samplers = self._optuna.samplers
        made = samplers.RandomSampler if self._sampler == "random" else samplers.TPESampler
        return made(seed=(self._seed * 1_000_003 + number) % 2**32)

    def _distribution(self, axis: tuple[str, ...] | Range) -> Any:
        kinds = self._optuna.distributions
        if not isinstance(axis, Range):
            return kinds.CategoricalDistribution(axis)
        if axis.is_whole:
            return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.is_wide)
        return kinds.FloatDistribution(axis.low, axis.high, log=axis.is_wide)

    def _texts(self, params: Mapping[str, Any]) -> Values:
        axes = self._space.axes
        return {
            key: number_text(params[key], axis) if isinstance(axis, Range) else str(params[key])
            for key, axis in axes.items()
        }

    def _told(self, values: Values, metric: float | None) -> Any:
        numbers = {
            key: (int(values[key]) if axis.is_whole else _inside(float(values[key]), axis))
            if isinstance(axis, Range)
            else values[key]
            for key, axis in self._space.axes.items()
        }
        states = self._optuna.trial.TrialState
        return self._optuna.trial.create_trial(
            params=numbers,
            distributions=self._distributions,
            value=metric,
            state=states.FAIL if metric is None else states.COMPLETE,
        )


def _inside(value: float, axis: Range) -> float:
    """What rounding to six digits may have put outside, put back."""
    return min(max(value, axis.low), axis.high)
