"""How long the rows are in tokens, and how much of them is learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from kft.data.table import Table
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Example

_AT_ONCE = 4096
_BARS = 16


class ExampleSizes(NamedTuple):
    """What is counted of B examples.

    Args:
        num_tokens: int64 (B,).
        num_targets: int64 (B,).
        was_truncated: bool (B,).
        end_is_target: bool (B,), the end token is learned.
    """

    num_tokens: np.ndarray
    num_targets: np.ndarray
    was_truncated: np.ndarray
    end_is_target: np.ndarray


def example_sizes(examples: Iterable[Example]) -> Iterator[ExampleSizes]:
    """The sizes of examples, a few thousand at a time; no row of a :class:`Table` is read."""
    if isinstance(examples, Table):
        columns = (
            examples.lists("labels"),
            *map(examples.flags, ("was_truncated", "end_is_target")),
        )
        for (labels, begins), was_truncated, end_is_target in zip(*columns, strict=True):
            is_target = labels != IGNORE_INDEX
            is_target[begins[:-1][np.diff(begins) > 0]] = False  # the first is never predicted
            until = np.concatenate([[0], np.cumsum(is_target)])
            num_targets = until[begins[1:]] - until[begins[:-1]]
            yield ExampleSizes(np.diff(begins), num_targets, was_truncated, end_is_target)
        return
    rows = iter(examples)
    while part := list(islice(rows, _AT_ONCE)):
        yield ExampleSizes(
            np.array([len(example.input_ids) for example in part]),
            np.array([_num_targets(example.labels) for example in part]),
            np.array([example.was_truncated for example in part]),
            np.array([example.end_is_target for example in part]),
        )


def _num_targets(labels: list[int]) -> int:
    # The first position is never predicted.
    return len(labels) - labels.count(IGNORE_INDEX) - (labels[0] != IGNORE_INDEX)


class TokenCounts:
    """Counts tokens and targets of the training rows, fed in arrays of any number of rows."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.num_targets = 0
        self._lengths = np.zeros(1, dtype=np.int64)  # rows of each length
        self._counts = dict.fromkeys(_FLAGS, 0)
        self._first: dict[str, int] = {}

    def add(self, sizes: ExampleSizes) -> None:
        """Take in the next rows."""
        num_tokens, num_targets, was_truncated, end_is_target = sizes
        lengths = np.bincount(num_tokens, minlength=len(self._lengths))
        lengths[: len(self._lengths)] += self._lengths
        self._lengths = lengths
        flags = (was_truncated, ~end_is_target & ~was_truncated, num_targets == 0)
        for name, flag in zip(_FLAGS, flags, strict=True):
            rows = np.flatnonzero(flag)
            self._counts[name] += len(rows)
            if len(rows):
                self._first.setdefault(name, self.num_rows + int(rows[0]))
        self.num_rows += len(num_tokens)
        self.num_targets += int(num_targets.sum())

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return int((self._lengths * np.arange(len(self._lengths))).sum())

    def count(self, flag: str) -> int:
        """Rows that are ``truncated``, ``without_end`` (though whole) or ``without_target``."""
        return self._counts[flag]

    def first_row(self, flag: str) -> int:
        """Number of the first such row, counted from 0; there must be one."""
        return self._first[flag]

    def quantile(self, share: float) -> int:
        """Tokens of the shortest row that is at least as long as this share of the rows."""
        reached = np.cumsum(self._lengths) >= share * self.num_rows
        return int(np.argmax(reached & (np.cumsum(self._lengths) > 0)))

    def histogram(self) -> tuple[list[int], list[int]]:
        """Edges of at most 16 bins of equal width (the last edge included) and rows in each."""
        shortest, longest = self.quantile(0.0), self.quantile(1.0)
        width = -(-(longest - shortest + 1) // _BARS)  # rounded up
        starts = np.arange(shortest, longest + 1, width)
        edges = [*starts.tolist(), longest]
        return edges, np.add.reduceat(self._lengths[: longest + 1], starts).tolist()

    def summary(self) -> dict[str, Any]:
        """The numbers of the section ``tokens``; see :class:`kft.api.check.Check`."""
        edges, rows = self.histogram()
        total = self.num_tokens
        return {
            "rows": self.num_rows,
            "tokens": total,
            "targets": self.num_targets,
            "target_share": self.num_targets / total if total else 0.0,
            "shortest": self.quantile(0.0),
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "longest": self.quantile(1.0),
            "histogram": {"edges": edges, "rows": rows},
            **self._counts,
        }


_FLAGS = ("truncated", "without_end", "without_target")
