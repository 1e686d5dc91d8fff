"""Whether a training loss has left for good the level it began at."""

from __future__ import annotations

from collections import deque

FIRST = 5
"""Steps whose mean loss a run begins with."""
RECENT = 20
"""Steps whose mean loss is compared with it."""
LIMIT = 1.5
"""How many times the first mean the recent one may be."""


class Divergence:
    """Watches the losses of a run; says once that they diverge.

    Example:
        >>> watch = Divergence()
        >>> any(watch.see(2.0) for _ in range(30))
        False
        >>> [step for step in range(30) if watch.see(4.0)]       # 0.5 of 20 at 4, the rest at 2
        [10]
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._is_told = False

    @property
    def first_mean(self) -> float:
        """Mean of the first losses, nats per target."""
        return sum(self._first) / max(len(self._first), 1)

    @property
    def recent_mean(self) -> float:
        """Mean of the latest losses, nats per target."""
        return sum(self._recent) / max(len(self._recent), 1)

    def see(self, loss: float) -> bool:
        """Take a step's loss in; true once, when the run has diverged."""
        if len(self._first) < FIRST:
            self._first.append(loss)
            return False
        self._recent.append(loss)
        if self._is_told or len(self._recent) < RECENT:
            return False
        self._is_told = self.recent_mean > LIMIT * self.first_mean
        return self._is_told
