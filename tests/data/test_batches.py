"""Which rows each step averages over."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.batches import WindowPlan, by_length, hold_out, make_windows, packed_parts
from kft.data.packing import Packing
from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import Example


def plan(num_examples: int, rows: int, batches: int, epochs: float = 1.0) -> WindowPlan:
    return WindowPlan(num_examples, rows, batches, epochs, None, seed=3)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_every_row_is_seen_once_per_epoch(n: int, rows: int, batches: int, epochs: int) -> None:
    windows = plan(n, rows, batches, epochs)
    steps = range(1, windows.total_steps + 1)
    seen = Counter(one for step in steps for row in windows.rows(step) for one in row)
    assert seen == dict.fromkeys(range(n), epochs)


@given(st.integers(1, 60), st.integers(1, 24))
def test_a_window_does_not_depend_on_how_it_is_cut(n: int, size: int) -> None:
    cuts = [(size, 1), (1, size)]
    first, second = (plan(n, *cut) for cut in cuts)
    assert first.total_steps == second.total_steps
    for step in range(1, first.total_steps + 1):
        assert first.rows(step) == second.rows(step)


def test_epochs_have_orders_of_their_own_and_may_be_cut_short() -> None:
    windows = plan(10, 5, 1, epochs=1.5)
    assert windows.total_steps == 3
    assert windows.rows(1) != windows.rows(3)
    assert plan(10, 5, 1).rows(2) == plan(10, 5, 1).rows(2)


def test_max_steps_replaces_epochs() -> None:
    assert WindowPlan(10, 5, 1, 3.0, 7, seed=0).total_steps == 7


def example(length: int) -> Example:
    return Example(list(range(4, 4 + length)), [4] * length, f"row:{length}", "가")


def test_parts_hold_rows_of_similar_length_longest_first() -> None:
    parts = list(by_length([example(n) for n in (3, 9, 4, 8)], 2))
    assert [[len(e.input_ids) for e in part] for part in parts] == [[9, 8], [4, 3]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 3))
def test_packed_rows_hold_every_example_once_per_epoch(
    lengths: list[int], rows: int, epochs: int
) -> None:
    windows = WindowPlan(len(lengths), rows, 1, epochs, None, seed=3, packing=Packing(lengths, 9))
    made = [row for step in range(1, windows.total_steps + 1) for row in windows.rows(step)]
    assert Counter(one for row in made for one in row) == dict.fromkeys(range(len(lengths)), epochs)
    assert all(sum(lengths[one] for one in row) <= 9 for row in made)


def test_the_documents_of_packed_rows_stand_longest_first() -> None:
    examples = [example(n) for n in (3, 9, 4, 8)]
    parts = list(packed_parts(examples, [[1, 0], [2], [3]], 2))
    assert [[len(e.input_ids) for e in part] for part in parts] == [[9, 4, 3], [8]]


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_goes_on_from_any_step(packed: bool) -> None:
    examples = [example(n) for n in range(2, 12)]
    packing = Packing([len(one.input_ids) for one in examples], 12) if packed else None
    windows = WindowPlan(10, 2, 1 if packed else 2, 2, None, seed=3, packing=packing)
    assert windows.total_steps > 4

    def batches(first_step: int) -> list[list[list[int]]]:
        made = make_windows(examples, windows, lambda part: CausalLM().collate(part, 0), first_step)
        return [[batch.input_ids.tolist() for batch in window] for window in made]

    assert batches(1)[3:] == batches(4)


@pytest.mark.parametrize(("n", "fraction", "expected"), [(10, 0.0, 0), (10, 0.01, 1), (2, 0.9, 1)])
def test_rows_are_held_out(n: int, fraction: float, expected: int) -> None:
    train, apart = hold_out(n, fraction, seed=1)
    assert len(apart) == expected
    assert sorted([*train, *apart]) == list(range(n))
    assert all(np.all(np.diff(rows) > 0) for rows in (train, apart)), "in file order"
    again = hold_out(n, fraction, seed=1)
    assert np.array_equal(train, again[0])
    assert np.array_equal(apart, again[1])


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_each_label_is_held_out_in_its_share(labels: list[int], fraction: float, seed: int) -> None:
    train, apart = hold_out(len(labels), fraction, seed, np.array(labels))
    assert len(apart) == len(hold_out(len(labels), fraction, seed)[1])
    assert sorted([*train, *apart]) == list(range(len(labels)))
    share = len(apart) / len(labels)
    for label in set(labels):
        held = sum(labels[row] == label for row in apart)
        assert abs(held - share * labels.count(label)) <= 0.5 + len(set(labels)) / 2


def test_a_rare_label_is_held_out_in_its_share_whatever_the_seed() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    held = [int(labels[hold_out(100, 0.2, seed, labels)[1]].sum()) for seed in range(20)]
    assert held == [2] * 20
    by_chance = [int(labels[hold_out(100, 0.2, seed)[1]].sum()) for seed in range(20)]
    assert by_chance != held
