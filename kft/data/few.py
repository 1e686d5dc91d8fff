"""What is few enough to stand in memory: small data needs no files and no cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar, cast

from kft.data.columns import size
from kft.data.row import Row

T = TypeVar("T")

FEW_ROWS = 2048
"""Up to this number rows stay in memory: reading and encoding them takes under a second."""
FEW_CHARACTERS = 2**22
"""Up to this number of characters, likewise."""
_AT_ONCE = 1024
_WEIGHED = 4  # of so many rows one is weighed, and stands for all of them


def row_size(row: Any) -> int:
    """Characters of a row, a record or an example, about."""
    if isinstance(row, Row):
        return _deep_size(row.fields)
    kind: Any = type(row)
    return sum(size(value) for value in _values_of(kind)(row))


@lru_cache(maxsize=8)
def _values_of(kind: Any) -> Callable[[Any], tuple[Any, ...]]:
    return cast(Callable[[Any], tuple[Any, ...]], attrgetter(*(f.name for f in fields(kind))))


def first_few(rows: Iterable[T], size_of: Callable[[T], int] = row_size) -> tuple[list[T], bool]:
    """The first rows that are few enough, and whether these are all of them."""
    taken: list[T] = []
    characters = 0
    for row in rows:
        taken.append(row)
        characters += size_of(row)
        if len(taken) > FEW_ROWS or characters > FEW_CHARACTERS:
            return taken, False
    return taken, True


def are_few(rows: Sequence[Any]) -> bool:
    """Whether rows may be taken into memory together; a list is there already."""
    return isinstance(rows, list) or (len(rows) <= FEW_ROWS and first_few(rows)[1])


def parts(rows: Iterable[T]) -> Iterator[list[T]]:
    """The rows, a bounded number of rows and characters at a time."""
    part: list[T] = []
    characters = 0
    for row in rows:
        if len(part) % _WEIGHED == 0:
            characters += _WEIGHED * row_size(row)
        part.append(row)
        if len(part) == _AT_ONCE or characters > FEW_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _deep_size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_deep_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_deep_size, value))
    return 8
