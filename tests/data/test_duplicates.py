"""Rows that say the same, counted by hand and on NSMC."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.duplicates import TextKeys, loosened


def keys_of(*rows: tuple[str, int | None]) -> TextKeys:
    keys = TextKeys()
    for text, label in rows:
        keys.add(text, label)
    return keys


def test_repeated_rows_by_hand() -> None:
    keys = keys_of(("가", 0), ("나", 0), ("가", 0), ("가", 1), ("나", 0), ("나!", 0), ("나!!", 0))
    assert keys.num_distinct() == 4
    assert keys.repeated().tolist() == [2, 4]
    assert keys.nearly_repeated().tolist() == [6]
    assert keys.labels.tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_conflicts_by_hand() -> None:
    keys = keys_of(("가", 0), ("나", 1), ("가", 1), ("가", 1), ("나", 1), ("다", 2), ("다", 0))
    num_texts, rows = keys.conflicting()
    assert (num_texts, rows.tolist()) == (2, [2, 6])
    assert keys.first_like(keys.loose[6]) == 5
    assert keys_of(("가", None), ("가", None)).conflicting()[0] == 0


def test_rows_that_stand_elsewhere() -> None:
    trained = keys_of(("Good  영화!!!", 0), ("나", 0))
    apart = keys_of(("다", 0), ("good 영화!", 1), ("나", 1))
    assert apart.standing_in(trained).tolist() == [1, 2]
    assert apart.num_exactly_in(trained) == 1


def test_nothing_at_all() -> None:
    keys = TextKeys()
    assert keys.num_distinct() == 0
    assert [len(keys.repeated()), len(keys.nearly_repeated()), keys.conflicting()[0]] == [0, 0, 0]
    assert len(keys.standing_in(keys_of(("가", 0)))) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    assert keys_of(("안녕", None)).exact.tolist() == [1666638135771752750]
    assert keys_of(("안녕", None)).exact.dtype == np.uint64


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_loosening_twice_is_loosening_once_for_white_space(text: str) -> None:
    loose = loosened(text)
    assert loosened(f"  {text}\n") == loose
    assert "  " not in loose


@given(st.lists(st.tuples(st.sampled_from("가나다라"), st.integers(0, 2)), max_size=30))
def test_as_dictionaries_count(rows: list[tuple[str, int]]) -> None:
    keys = keys_of(*rows)
    seen: set[tuple[str, int]] = set()
    repeated = []
    for number, row in enumerate(rows):
        if row in seen:
            repeated.append(number)
        seen.add(row)
    assert keys.repeated().tolist() == repeated
    labels: dict[str, set[int]] = {}
    for text, label in rows:
        labels.setdefault(text, set()).add(label)
    assert keys.conflicting()[0] == sum(len(found) > 1 for found in labels.values())
    assert keys.num_distinct() == len(labels)


def nsmc(path: Path, *, with_empty: bool) -> TextKeys:
    keys = TextKeys()
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        for _, document, label in rows:
            if with_empty or document.strip():
                keys.add(document, int(label))
    return keys


# The five empty training documents are one text, with both labels among them, and the three
# empty test documents occur in training too. Reading drops empty rows, so a check says one
# text, one conflict and three leaks less.
@pytest.mark.parametrize(
    ("with_empty", "distinct", "conflicts", "leaks"),
    [
        pytest.param(True, 146_183, 158, 1_571, marks=pytest.mark.slow),
        (False, 146_182, 157, 1_568),
    ],
)
def test_nsmc(real_data: Path, with_empty: bool, distinct: int, conflicts: int, leaks: int) -> None:
    folder = real_data / "data" / "nsmc"
    trained = nsmc(folder / "ratings_train.txt", with_empty=with_empty)
    apart = nsmc(folder / "ratings_test.txt", with_empty=with_empty)
    assert trained.num_distinct() == distinct
    assert trained.conflicting()[0] == conflicts
    assert apart.num_exactly_in(trained) == leaks
    assert len(apart.standing_in(trained)) >= leaks
