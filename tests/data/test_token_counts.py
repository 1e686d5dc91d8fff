"""Lengths in tokens, against numpy on the whole list."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data.table import Table, write_table
from kft.data.token_counts import ExampleSizes, TokenCounts, example_sizes
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Example


def counted(lengths: list[int], size: int = 2) -> TokenCounts:
    counts = TokenCounts()
    for start in range(0, len(lengths), size):
        part = np.array(lengths[start : start + size])
        no = np.zeros(len(part), dtype=bool)
        counts.add(ExampleSizes(part, part - 1, no, ~no))
    return counts


def test_numbers_by_hand() -> None:
    counts = TokenCounts()
    for tokens, targets, truncated, ends in (
        ([4, 10], [1, 0], [False, True], [True, False]),
        ([6], [5], [False], [False]),
    ):
        sizes = ExampleSizes(*map(np.array, (tokens, targets, truncated, ends)))
        counts.add(sizes)
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


LABELS = st.lists(st.sampled_from([IGNORE_INDEX, 0, 7]), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, st.booleans(), st.booleans()), max_size=9))
def test_stored_examples_have_the_same_sizes(rows: list[tuple[list[int], bool, bool]]) -> None:
    examples = [
        Example([1] * len(labels), labels, "a.jsonl:1", "", was_truncated=cut, end_is_target=ends)
        for labels, cut, ends in rows
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "examples.arrow"
        write_table(path, examples, Example)
        stored = list(example_sizes(Table(path, Example)))
    plain = [
        (len(one.input_ids), one.num_targets, one.was_truncated, one.end_is_target)
        for one in examples
    ]
    for sizes in (stored, list(example_sizes(examples))):
        columns = [np.concatenate(column).tolist() for column in zip(*sizes, strict=True)]
        assert list(zip(*columns, strict=True)) == plain
