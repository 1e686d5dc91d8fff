"""A table written by a thread of its own while its rows are still made.

A tokenizer works outside of Python, so one core writes what it encoded while another encodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Full, Queue
from typing import TypeVar

from kft.data.table import write_table

T = TypeVar("T")
_WAITING = 2
"""Parts that wait to be written, at most."""


def write_beside(path: Path, parts: Iterable[Sequence[T]], kind: type[T]) -> int:
    """What :func:`kft.data.table.write_table` does with rows that come in parts.

    The parts are made in the caller's thread, and at most two of them wait.

    Args:
        path: The file; an existing one is replaced.
        parts: Rows, a few thousand at a time.
        kind: Their dataclass.

    Returns:
        The number of rows.

    Raises:
        OSError: If the file can't be written.
    """
    waiting: Queue[Sequence[T] | None] = Queue(_WAITING)

    def rows() -> Iterator[T]:
        while (part := waiting.get()) is not None:
            yield from part

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_table, path, rows(), kind)
        try:
            for part in parts:
                if not _put(waiting, part, writing):
                    break
        finally:  # also where a part can't be made
            _put(waiting, None, writing)
        return writing.result()


def _put(
    waiting: Queue[Sequence[T] | None], part: Sequence[T] | None, writing: Future[int]
) -> bool:
    """Hand a part over; false if nobody takes it any more."""
    while not writing.done():
        try:
            waiting.put(part, timeout=0.2)
        except Full:
            continue
        return True
    return False
