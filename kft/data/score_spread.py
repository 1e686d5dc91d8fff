"""The scores that are to be learned: how they spread, and which of them can hardly be meant."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kft.errors import Finding

_FENCE = 3.0
"""Tukey's outer fence: so many times the middle half's width beyond it a value is far out."""
_FEWEST = 20
"""Rows without which a spread says nothing."""


class ScoreSpread:
    """Takes in the score of each training row, in row order."""

    def __init__(self) -> None:
        self._values = array("d")

    def add(self, value: float | None) -> None:
        """The score of the next row; ``None`` where it has none."""
        self._values.append(float("nan") if value is None else value)

    def _known(self) -> np.ndarray:
        values = np.array(self._values)
        known: np.ndarray = values[~np.isnan(values)]
        return known

    def summary(self) -> dict[str, Any]:
        """``rows``, ``distinct``, ``lowest``, ``median``, ``mean``, ``highest``; empty if none."""
        known = self._known()
        if not len(known):
            return {}
        return {
            "rows": len(known),
            "distinct": len(np.unique(known)),
            "lowest": float(known.min()),
            "median": float(np.median(known)),
            "mean": float(known.mean()),
            "highest": float(known.max()),
        }

    def findings(self, place: Callable[[int], str]) -> Iterator[Finding]:
        """Scores that are far from all others, that are all the same, or that are identifiers.

        Args:
            place: Number of a row -> ``file:line``.

        Source:
            Tukey 1977, "Exploratory Data Analysis", section 2D, for the outer fence.
        """
        known = self._known()
        if len(known) < _FEWEST:
            return
        if len(np.unique(known)) == 1:
            yield Finding(
                "warning",
                f"Every training row has the score {known[0]:g}: there is nothing to tell apart",
                where="`data.columns.label`",
                hint="Name the column that holds the scores.",
            )
        is_whole = bool((known == np.round(known)).all())
        if is_whole and len(np.unique(known)) == len(known):
            yield Finding(
                "warning",
                "Every training row has a whole number of its own for a score",
                where="`data.columns.label`",
                hint="Name the column that holds the scores; this one may hold identifiers.",
            )
            return
        lowest, lower, upper, highest = np.quantile(known, [0.01, 0.25, 0.75, 0.99])
        # Where half of them are one and the same: what nearly all lie within, or its own size.
        spread = (upper - lower) or (highest - lowest) or max(1.0, abs(lower))
        width = _FENCE * spread
        values = np.array(self._values)
        far = np.flatnonzero((values < lower - width) | (values > upper + width))
        if len(far):
            yield Finding(
                "warning",
                f"Scores are far from all others, such as {values[far[0]]:g}, where the middle "
                f"half lies between {lower:g} and {upper:g}: one of them can outweigh many rows",
                where=place(int(far[0])),
                hint="Correct them, or leave the rows out.",
                count=len(far),
            )
