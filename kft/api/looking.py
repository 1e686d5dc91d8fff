"""The rows are looked at while something else is done: by a thread, or by a process of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from kft.api.row_report import KeptReport, NobodyAsksError, is_kept, kept_report
from kft.tasks.record import Record

ENOUGH_ROWS = 20_000
"""Fewer are looked at in the time that a process takes to start."""

_CHILD = "from kft.api.looking import look_for_another; look_for_another()"
_SECONDS = 0.05  # between two looks at whether the process has ended


@contextmanager
def looking_beside(
    train: Sequence[Record], held_out: Sequence[Record], labels: Sequence[str]
) -> Iterator[Future[KeptReport]]:
    """What :func:`kept_report` does, while the caller does something else.

    Many rows are looked at by a process of its own, which leaves the report in the cache: both
    sides are Python, and threads would take turns. An error of the caller's ends the looking.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(_look, train, held_out, labels, stop)
        try:
            yield looking
        except BaseException:
            stop.set()
            raise


def _look(
    train: Sequence[Record],
    held_out: Sequence[Record],
    labels: Sequence[str],
    stop: threading.Event,
) -> KeptReport:
    if len(train) >= ENOUGH_ROWS and not is_kept(train, held_out, labels):
        _have_it_kept(pickle.dumps((train, held_out, labels)), stop)
    return kept_report(train, held_out, labels, stop)  # of what failed there, it is done here


def _have_it_kept(rows: bytes, stop: threading.Event) -> None:
    home = str(Path(__file__).parents[2])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    with (
        contextlib.suppress(OSError),  # no process can be started, or it has ended already
        subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD],  # no module of the folder it stands in
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        if process.stdin is not None:
            with contextlib.suppress(OSError), process.stdin:
                process.stdin.write(rows)
        while process.poll() is None:
            if stop.wait(_SECONDS):
                process.kill()
                raise NobodyAsksError


def look_for_another() -> None:
    """Look at the rows that another process of kft names on standard input, and keep the report."""
    # From the pipe of the kft that started it, as multiprocessing would send them; that isn't used
    # because its children run a user's script again.
    train, held_out, labels = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 -- see above
    kept_report(train, held_out, labels)
