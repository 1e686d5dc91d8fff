"""Limits to what a template may take: seconds, memory, and the length of what it writes.

The sandbox keeps a template from the machine's files and from Python; it does not keep it from
counting for ever, or from asking for a text of ten gigabytes.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kft.errors import DataError
from kft.tasks.record import Message

SECONDS = 10.0
"""For one call; beside it :data:`ROW_SECONDS` for each row."""
ROW_SECONDS = 0.01
MEMORY_BYTES = 2**30
"""Beyond what the process has when it begins."""
FREE_CHARACTERS = 100_000
TIMES = 100
"""A rendering longer than that many times its messages, and than the free characters, is none."""


@contextmanager
def limited(num_rows: int) -> Iterator[None]:
    """Let what is inside take only so much time (on the main thread) and memory (on Linux).

    Raises:
        TimeoutError: If it takes longer.
        MemoryError: If it asks for more.
    """
    seconds = SECONDS + ROW_SECONDS * num_rows
    with _within(seconds), _with_memory(MEMORY_BYTES):
        yield


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it takes longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _with_memory(more: int) -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    wanted = pages * resource.getpagesize() + more
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check_sizes(
    texts: Sequence[str], conversations: Sequence[Sequence[Message]], places: Sequence[str]
) -> None:
    """See that no rendering is out of all proportion to its messages.

    Raises:
        DataError: If one is.
    """
    for text, messages, place in zip(texts, conversations, places, strict=True):
        if len(text) <= FREE_CHARACTERS:
            continue
        written = sum(len(value) for message in messages for value in message.values())
        if len(text) > TIMES * written:
            raise endless(f"{len(text):,} characters from {written:,}", place)


def endless(reason: str, place: str) -> DataError:
    """The error for a template that goes beyond a limit."""
    return DataError(
        f"The template makes too much of this row: {reason}",
        where=place,
        expected=f"at most {SECONDS:.0f} s, {MEMORY_BYTES / 2**30:.0f} GiB and {TIMES} times the "
        "row's own text",
        hint="`data.template` takes another template, or a jinja file of your own.",
    )
