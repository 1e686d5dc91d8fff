"""Lengths in tokens, against numpy on the whole list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.token_counts import TokenCounts


def counted(lengths: list[int], size: int = 2) -> TokenCounts:
    counts = TokenCounts()
    for start in range(0, len(lengths), size):
        part = np.array(lengths[start : start + size])
        no = np.zeros(len(part), dtype=bool)
        counts.add(part, part - 1, no, ~no)
    return counts


def test_numbers_by_hand() -> None:
    counts = TokenCounts()
    counts.add(
        np.array([4, 10]), np.array([1, 0]), np.array([False, True]), np.array([True, False])
    )
    counts.add(np.array([6]), np.array([5]), np.array([False]), np.array([False]))
    assert counts.summary() == {
        "rows": 3,
        "tokens": 20,
        "targets": 6,
        "target_share": 0.3,
        "shortest": 4,
        "median": 6,
        "p95": 10,
        "p99": 10,
        "longest": 10,
        "histogram": {
            "edges": [4, 5, 6, 7, 8, 9, 10, 10],
            "rows": [1, 0, 1, 0, 0, 0, 1],
        },
        "truncated": 1,
        "without_end": 1,
        "without_target": 1,
    }
    flags = ("truncated", "without_end", "without_target")
    assert [counts.first_row(flag) for flag in flags] == [1, 2, 1]


@given(st.lists(st.integers(1, 300), min_size=1), st.integers(1, 7))
def test_the_same_as_numpy_on_everything(lengths: list[int], size: int) -> None:
    counts = counted(lengths, size)
    assert counts.num_tokens == sum(lengths)
    for share in (0.0, 0.25, 0.5, 0.95, 1.0):
        expected = np.quantile(lengths, share, method="inverted_cdf")
        assert counts.quantile(share) == expected
    edges, rows = counts.histogram()
    assert len(rows) == len(edges) - 1 <= 16
    assert sum(rows) == len(lengths)
    assert (edges[0], edges[-1]) == (min(lengths), max(lengths))


@pytest.mark.parametrize("longest", [1, 15, 16, 17, 512])
def test_bins_cover_every_length(longest: int) -> None:
    edges, rows = counted(list(range(1, longest + 1))).histogram()
    assert sum(rows) == longest
    assert len(set(np.diff(edges[:-1]))) <= 1
