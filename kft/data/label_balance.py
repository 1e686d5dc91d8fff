"""How often each label occurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kft.errors import Finding, name_list

_RARE = 0.01
_FEWEST_NAMES = 20
_FEWEST_ROWS = 2  # of each label, on average


class LabelCounts:
    """Counts the labels of the training rows and of the held-out rows.

    Args:
        names: Names of the labels, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.train = [0] * len(self.names)
        self.held_out = [0] * len(self.names)

    def add(self, label: int, *, held_out: bool = False) -> None:
        """Take in the label of a row."""
        (self.held_out if held_out else self.train)[label] += 1

    def summary(self) -> dict[str, Any]:
        """``counts`` and ``held_out_counts`` by name, ``majority_share`` of the training rows."""
        total = sum(self.train)
        return {
            "counts": dict(zip(self.names, self.train, strict=True)),
            "held_out_counts": dict(zip(self.names, self.held_out, strict=True)),
            "majority_share": max(self.train, default=0) / total if total else 0.0,
        }

    def findings(self) -> list[Finding]:
        """Labels that can hardly be learned."""
        total = sum(self.train)
        if len(self.names) > _FEWEST_NAMES and total < _FEWEST_ROWS * len(self.names):
            return [
                Finding(
                    "error",
                    f"There are {len(self.names):,} labels for {total:,} training rows: nearly "
                    "every row has its own",
                    where="`data.columns.label`",
                    hint="Name the column that holds the classes; this one may hold identifiers.",
                )
            ]
        counts = dict(zip(self.names, self.train, strict=True))
        never = [name for name, count in counts.items() if count == 0]
        rare = {name: count for name, count in counts.items() if 0 < count < _RARE * total}
        found = []
        if never:
            found.append(
                Finding(
                    "warning",
                    f"No training row has the label {name_list(never)}: it can't be learned",
                    where="`data.labels`",
                    hint="Take it out of `data.labels`, or add rows that have it.",
                )
            )
        if rare:
            told = ", ".join(f"`{name}` {count:,}" for name, count in list(rare.items())[:5])
            found.append(
                Finding(
                    "warning",
                    f"Labels are in less than 1% of {total:,} training rows: {told}",
                    where="`data.labels`",
                    hint="Add rows that have them; accuracy alone won't show whether they are "
                    "learned.",
                    count=len(rare),
                )
            )
        unmeasured = [
            name
            for name, count, seen in zip(self.names, self.held_out, self.train, strict=True)
            if count == 0 and seen and any(self.held_out)
        ]
        if unmeasured:
            what = f"No held-out row has the label {name_list(unmeasured)}: it isn't measured"
            found.append(Finding("note", what, where="`data.eval`"))
        return found
