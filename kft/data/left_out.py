"""Rows that were left out: how many, and where the first of them stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PLACES = 5
"""Places that are remembered: enough to look at, and few where millions of rows are left out."""


@dataclass
class LeftOut:
    """Rows left out for one reason.

    Args:
        count: Their number.
        places: ``file:line`` of the first ones.
    """

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        """Take in a row."""
        self.count += 1
        if len(self.places) < PLACES:
            self.places.append(place)

    def extend(self, others: LeftOut) -> None:
        """Take in the rows that were left out after these for the same reason."""
        self.count += others.count
        self.places += others.places[: PLACES - len(self.places)]


def joined(parts: Iterable[Mapping[str, LeftOut]]) -> dict[str, LeftOut]:
    """Reason -> rows of all parts, in the order in which the reasons first come."""
    reasons: dict[str, LeftOut] = {}
    for part in parts:
        for reason, rows in part.items():
            reasons.setdefault(reason, LeftOut()).extend(rows)
    return reasons


def from_plain(values: Mapping[str, Any]) -> dict[str, LeftOut]:
    """Reason -> rows, from what :func:`dataclasses.asdict` made of them."""
    return {reason: LeftOut(**rows) for reason, rows in values.items()}
