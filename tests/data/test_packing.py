"""Which rows share a packed row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.packing import Packing


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[int]:
    """The room left in each row, packed one piece after another: the plain reference."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=rooms.__getitem__)] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@st.composite
def lengths_and_capacity(draw: st.DrawFn) -> tuple[list[int], int]:
    capacity = draw(st.integers(1, 40))
    return draw(st.lists(st.integers(1, capacity), min_size=1, max_size=80)), capacity


@given(lengths_and_capacity(), st.integers(0, 3))
def test_rows_are_packed_as_best_fit_decreasing_packs_them(
    case: tuple[list[int], int], epoch: int
) -> None:
    lengths, capacity = case
    packing = Packing(lengths, capacity)
    rows = packing.epoch(seed=1, epoch=epoch)
    assert len(rows) == len(packing)
    assert sorted(int(one) for row in rows for one in row) == list(range(len(lengths)))
    left = sorted(capacity - sum(lengths[int(one)] for one in row) for row in rows)
    assert left == best_fit_decreasing(lengths, capacity)
    assert packing.fill_rate == pytest.approx(sum(lengths) / (capacity * len(rows)))


def test_epochs_are_drawn_from_the_seed_and_differ() -> None:
    packing = Packing([3] * 20, 9)
    rows = [[row.tolist() for row in packing.epoch(*drawn)] for drawn in ((0, 0), (0, 0), (0, 1))]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_rows_like_those_of_nsmc_fill_more_than_98_percent() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(3.1, 0.6, 20_000), 4, 150).astype(int)
    assert Packing(lengths.tolist(), 192).fill_rate > 0.98


@pytest.mark.parametrize("length", [0, 10])
def test_rows_that_can_not_be_packed_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="rows of 1 to 9 tokens"):
        Packing([3, length], 9)


def test_the_rows_of_a_packed_row_end() -> None:
    rows = Packing([3, 4], 9).epoch(0, 0)
    assert [row.tolist() for row in rows] == [[1, 0]]
    with pytest.raises(IndexError):
        rows[1]
