"""Which evaluation while training was the best, and whether it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Best:
    """The best evaluation so far.

    Args:
        higher_is_better: Which way the metric goes.
        patience: Evaluations in a row without a better one after which to stop; ``None``
            never stops.
        value: The metric at the best evaluation; ``None`` before any.
        step: The optimizer step of that evaluation.
        since: Evaluations after it.

    Example:
        >>> best = Best(higher_is_better=False, patience=2)
        >>> [best.see(step, loss) for step, loss in ((10, 2.0), (20, 1.5), (30, 1.6))]
        [True, True, False]
        >>> best.step, best.is_over
        (20, False)
        >>> best.see(40, 1.5), best.is_over                # as good is not better
        (False, True)
    """

    higher_is_better: bool
    patience: int | None = None
    value: float | None = None
    step: int | None = None
    since: int = 0

    def see(self, step: int, value: float) -> bool:
        """Take an evaluation in; whether it is the best so far. One that is no number isn't."""
        sign = 1 if self.higher_is_better else -1
        if math.isfinite(value) and (self.value is None or sign * value > sign * self.value):
            self.value, self.step, self.since = value, step, 0
            return True
        self.since += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.since >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: ``value``, ``step`` and ``since``."""
        return {"value": self.value, "step": self.step, "since": self.since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept; an empty state is the beginning."""
        self.value, self.step = state.get("value"), state.get("step")
        self.since = int(state.get("since", 0))
