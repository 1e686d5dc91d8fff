"""Rows in memory-mapped Arrow files, read one at a time as the objects they were.

The files are Arrow IPC streams, as ``datasets`` writes them, so ``datasets.Dataset.from_file``
opens them too. pyarrow is called directly: importing ``datasets`` takes several times as long.
What is mapped is the system's to keep or to drop; only what is being read stands in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np

from kft.data.columns import arrow_type, flags, getter, hints, numbers, offsets, plain, size, valid

T = TypeVar("T")

_CHUNK_ROWS = 2**16
_AT_ONCE = 2**12
_WEIGHED = 4  # of so many rows one is weighed, and stands for all of them
_CHUNK_SIZE = 2**21  # characters and numbers: the most that stands in memory as objects


def write_table(path: Path, items: Iterable[T], kind: type[T]) -> int:
    """Write rows one after another, a bounded number of them at once.

    Args:
        path: The file; an existing one is replaced.
        items: Objects of one flat dataclass, whose fields are text, numbers, truth values, lists
            or tuples of text or whole numbers, tuples of messages, or ``None`` where allowed.
        kind: The dataclass.

    Returns:
        The number of rows.

    Raises:
        OSError: If the file can't be written.
        TypeError: If a field has another type.
    """
    import pyarrow.ipc

    types = hints(kind)
    schema = pyarrow.schema([(name, arrow_type(hint)) for name, hint in types.items()])
    values_of = cast(Callable[[T], tuple[Any, ...]], attrgetter(*types))
    num_rows = waiting_size = 0
    waiting: list[tuple[Any, ...]] = []

    with path.open("wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:

        def write_chunk() -> None:
            columns = [
                pyarrow.array(plain(column, hint), type=arrow_type(hint))
                for column, hint in zip(zip(*waiting, strict=True), types.values(), strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            waiting.clear()

        for item in items:
            values = values_of(item)
            if len(waiting) % _WEIGHED == 0:
                waiting_size += _WEIGHED * sum(map(size, values))
            waiting.append(values)
            if waiting_size >= _CHUNK_SIZE or len(waiting) == _CHUNK_ROWS:
                num_rows += len(waiting)
                waiting_size = 0
                write_chunk()
        num_rows += len(waiting)
        if waiting:
            write_chunk()
    return num_rows


class Table(Sequence[T]):
    """The rows of a file that :func:`write_table` wrote, memory-mapped.

    Args:
        path: The file.
        kind: The dataclass of its rows.

    Raises:
        OSError: If the file can't be opened, or is no such file.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        import pyarrow.ipc

        self.path, self.kind = path, kind
        with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
            self._batches = list(reader)
        counts = [batch.num_rows for batch in self._batches]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._chunks: list[_Chunk[T] | None] = [None] * len(counts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...
    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        if isinstance(row, slice):
            return Chosen(self, np.arange(len(self))[row])
        row = range(len(self))[row]
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._chunk(number)[row - int(self._starts[number])]

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._chunks)):
            yield from self._chunk(number)

    def at(self, rows: np.ndarray) -> Iterator[T]:
        """The rows of these numbers, int64, in this order."""
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            numbers = np.searchsorted(self._starts, part, side="right") - 1
            inside = part - self._starts[numbers]
            for number, row in zip(numbers.tolist(), inside.tolist(), strict=True):
                yield self._chunk(number)[row]

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.path, self.kind)

    def lengths(self, column: str) -> np.ndarray:
        """Items in each row's list, int64 (rows,), without reading any; 0 where there is none."""
        parts = [np.diff(offsets(array)) for array in self._arrays(column)]
        return np.concatenate(parts or [_NO_ROWS]).astype(np.int64)

    def is_set(self, column: str) -> np.ndarray:
        """Whether each row has a value, bool (rows,)."""
        parts = [valid(array) for array in self._arrays(column)]
        return np.concatenate(parts or [_NO_ROWS]).astype(bool)

    def whole_numbers(self, column: str) -> np.ndarray:
        """The values of a column that every row has, int64 (rows,)."""
        parts = [numbers(array) for array in self._arrays(column)]
        return np.concatenate(parts or [_NO_ROWS]).astype(np.int64)

    def lists(self, column: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The numbers of all lists of a column, a part of the rows at a time.

        Yields:
            ``numbers`` of these rows one after another, and the ``offsets`` at which each row's
            begin, with the last one's end.
        """
        for array in self._arrays(column):
            begins = offsets(array)
            yield numbers(array.values)[begins[0] : begins[-1]], begins - begins[0]

    def flags(self, column: str) -> Iterator[np.ndarray]:
        """The truth values of a column, bool, of the same parts of the rows."""
        return map(flags, self._arrays(column))

    def _arrays(self, column: str) -> Iterator[Any]:
        position = [field.name for field in fields(cast(Any, self.kind))].index(column)
        return (batch.column(position) for batch in self._batches)

    def _chunk(self, number: int) -> _Chunk[T]:
        chunk = self._chunks[number]
        if chunk is None:
            chunk = self._chunks[number] = _Chunk(self._batches[number], self.kind)
        return chunk


class Chosen(Sequence[T]):
    """Some rows of others, in any order and any number of times; only their numbers are held.

    Args:
        rows: The rows.
        indices: int64, which of them.
    """

    def __init__(self, rows: Sequence[T], indices: np.ndarray) -> None:
        self.rows: Sequence[T] = rows.rows if isinstance(rows, Chosen) else rows
        self.indices: np.ndarray = rows.indices[indices] if isinstance(rows, Chosen) else indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...
    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        if isinstance(row, slice):
            return Chosen(self.rows, self.indices[row])
        return self.rows[int(self.indices[row])]

    def __iter__(self) -> Iterator[T]:
        if isinstance(self.rows, Table):
            return self.rows.at(self.indices)
        return (self.rows[row] for row in self.indices.tolist())


def choose(rows: Sequence[T], indices: Sequence[int] | np.ndarray) -> Sequence[T]:
    """The rows of these numbers, in this order: a list from a list, else a view.

    Example:
        >>> choose(["a", "b", "c"], [2, 0])
        ['c', 'a']
    """
    if isinstance(rows, list):
        return [rows[int(row)] for row in indices]
    return Chosen(rows, np.asarray(indices, dtype=np.int64))


def lengths(rows: Sequence[Any], column: str = "input_ids") -> np.ndarray:
    """Items in each row's list, int64 (rows,); no row of a :class:`Table` is read for it."""
    if isinstance(rows, Table):
        return rows.lengths(column)
    if isinstance(rows, Chosen):
        return cast(np.ndarray, lengths(rows.rows, column)[rows.indices])
    values = map(attrgetter(column), rows)
    return np.fromiter((0 if v is None else len(v) for v in values), np.int64, len(rows))


def whole_numbers(rows: Sequence[Any], column: str) -> np.ndarray:
    """The values of a column that every row has, int64 (rows,); no row of a table is read."""
    if isinstance(rows, Table):
        return rows.whole_numbers(column)
    if isinstance(rows, Chosen):
        return cast(np.ndarray, whole_numbers(rows.rows, column)[rows.indices])
    return np.fromiter(map(attrgetter(column), rows), np.int64, len(rows))


def are_set(rows: Sequence[Any], column: str) -> np.ndarray:
    """Whether each row has a value there, bool (rows,); no row of a :class:`Table` is read."""
    if isinstance(rows, Table):
        return rows.is_set(column)
    if isinstance(rows, Chosen):
        return cast(np.ndarray, are_set(rows.rows, column)[rows.indices])
    return np.fromiter((getattr(row, column) is not None for row in rows), bool, len(rows))


class _Chunk(Generic[T]):
    """The rows of one record batch."""

    def __init__(self, batch: Any, kind: type[T]) -> None:
        self._make = kind
        self._num_rows = batch.num_rows
        self._get = [
            None if array.null_count == len(array) else getter(array, hint)
            for array, hint in zip(batch.columns, hints(kind).values(), strict=True)
        ]

    def __getitem__(self, row: int) -> T:
        return self._make(*[get and get(row) for get in self._get])

    def __iter__(self) -> Iterator[T]:
        rows = range(self._num_rows)
        columns = [repeat(None) if get is None else map(get, rows) for get in self._get]
        # `repeat` never ends, and no row at all has no column that does.
        return (self._make(*values) for _, *values in zip(rows, *columns, strict=False))


_NO_ROWS = np.empty(0, dtype=np.int64)
