"""The command ``kft``: runs what was asked; errors become text and exit codes.

Exit codes: 0; 2 for a wrong recipe, wrong usage or wrong data; 1 for what fails later; 130 and
143 when interrupted by SIGINT or SIGTERM. Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import click

from kft.api.launched import launched_rank
from kft.cli import bench as _bench  # noqa: F401 -- its command
from kft.cli import evaluate as _evaluate  # noqa: F401 -- likewise
from kft.cli import exported as _exported  # noqa: F401 -- likewise
from kft.cli import resume_check as _resume_check  # noqa: F401 -- likewise
from kft.cli import sweep as _sweep  # noqa: F401 -- likewise
from kft.cli.commands import cli
from kft.cli.messages import (
    error_text,
    tell,
    traceback_text,
    unexpected,
    usage_error,
    wants_color,
)
from kft.errors import KftError

__all__ = ["cli", "main", "run_words"]

_ALLOCATIONS = 200_000
"""Objects more than freed ones, before Python looks for cycles among the youngest."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code.

    Args:
        arguments: Words after ``kft``; else those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Else pydantic reads the metadata of every installed package, to find plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    signal.signal(signal.SIGTERM, _on_sigterm)
    # Three thousand modules and millions of rows are no cycles: looking for some among them takes
    # a sixth of a start.
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that isn't UTF-8
    exit_code = run_words(words)
    if not _flush_stdout():
        exit_code = exit_code or 1
    gc.freeze()  # else it looks among all of them once more as it leaves, a quarter of a second
    sys.exit(exit_code)


def run_words(words: Sequence[str]) -> int:
    """Run the command, tell what goes wrong, and return the exit code."""
    with_traceback = "--traceback" in words
    try:
        with cli.make_context("kft", list(words)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _report(usage_error(error))
    except KftError as error:
        return _report(error, error if with_traceback else None)
    except KeyboardInterrupt:
        if not launched_rank():
            tell("Interrupted.")
        return 130
    except Exception as error:  # noqa: BLE001 -- the outermost place: told, never swallowed
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 1  # as `head` does
        told = unexpected(error, with_traceback=with_traceback)
        return _report(told, error if with_traceback else None)
    return 0


def _report(error: KftError, traced: Exception | None = None) -> int:
    if launched_rank():
        tell(f"rank {launched_rank()}:")
    if traced is not None:
        tell(traceback_text(traced) + "\n")
    tell(error_text(error), colored=wants_color(sys.stderr))
    return error.exit_code


def _reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    events = select.poll()
    events.register(sys.stdout.fileno(), 0)
    return bool(events.poll(0))


def _flush_stdout() -> bool:
    """Whether stdout took everything; if not, Python's own complaint at exit is silenced."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _on_sigterm(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
