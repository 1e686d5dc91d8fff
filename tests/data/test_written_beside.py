"""Rows made in one thread and written in another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kft.data.table import Table
from kft.data.written_beside import write_beside


@dataclass(frozen=True)
class Row:
    text: str
    number: int


def parts(number: int) -> Iterator[list[Row]]:
    for start in range(number):
        yield [Row(f"{start}-{each}", each) for each in range(3)]


def test_all_rows_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    assert write_beside(path, parts(50), Row) == 150
    assert list(Table(path, Row)) == [row for part in parts(50) for row in part]


def test_a_part_that_cannot_be_made_ends_it(tmp_path: Path) -> None:
    def broken() -> Iterator[list[Row]]:
        yield from parts(5)
        raise ValueError("row 16")

    with pytest.raises(ValueError, match="row 16"):
        write_beside(tmp_path / "rows.arrow", broken(), Row)


def test_a_file_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    made = []

    def counted() -> Iterator[list[Row]]:
        for part in parts(1000):
            made.append(part)
            yield part

    with pytest.raises(OSError, match="no_folder"):
        write_beside(tmp_path / "no_folder" / "rows.arrow", counted(), Row)
    assert len(made) < 1000
