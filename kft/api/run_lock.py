"""One run at a time writes a run folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
from io import TextIOWrapper
from pathlib import Path

from kft.errors import UsageError

LOCK = ".lock"
"""File in the run folder while a run writes there."""


class RunLock:
    """The right to write a run folder.

    The system takes it back when the process ends, however that happens, so nothing is to be
    cleaned up after a crash.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file: TextIOWrapper | None = None

    def take(self) -> None:
        """Make the folder, and take the right to write it.

        Raises:
            UsageError: If another process has it, or the folder can't be made.
        """
        if self._file is not None:
            return
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a", encoding="utf-8")
        except OSError as cause:
            raise UsageError(
                f"The run folder can't be made: {cause.strerror or cause}",
                where=str(folder),
                expected="a place where files can be written",
            ) from cause
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            file.close()
            raise UsageError(
                f"Another process is writing the run folder `{folder}`",
                where=str(self.path),
                expected="one run in a folder at a time",
                hint="Processes of one run are started by `torchrun` or `accelerate launch`.",
            ) from cause
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
