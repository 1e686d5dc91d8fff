"""The processes of one run: which of them this is, and what they do and decide together.

A step belongs to all ranks; files, console and evaluations to the main one. What goes wrong is
told by one rank, and all of them leave. A run of one process asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object

from kft.errors import DataError, KftError, TrainError
from kft.train.sharing import UNSHARED, Sharing

T = TypeVar("T")

_LOST = ("gloo", "Connection closed", "Connection reset", "NCCL")


class Ranks:
    """The processes that take a run's steps together.

    Args:
        accelerator: The run's one Accelerator.
        sharing: What of the run's state each holds a part of.
    """

    def __init__(self, accelerator: Accelerator, sharing: Sharing = UNSHARED) -> None:
        self.accelerator = accelerator
        self.number: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self.is_main = self.rank == 0
        self.sharing = sharing
        self._is_over = False

    def together(self, work: Callable[[], T]) -> T:
        """Do the same on every rank; where one fails, none goes on.

        The first rank that failed raises its error, the others leave with the same exit code.
        """
        if self.number == 1:
            return work()
        try:
            result = work()
        except Exception as error:  # whatever it is, the others wait to hear of it; it goes on
            if not self._is_over:  # else the others know
                self._exchange(_exit_code(error), None)
            raise
        self._exchange(0, None)
        return result

    def in_turn(self, work: Callable[[], T]) -> T:
        """The same, first on one rank of each machine; others find what it left in the cache."""
        if self.number == 1:
            return work()
        if self.accelerator.is_local_main_process:
            first = self.together(work)
            self.together(_nothing)
            return first
        self.together(_nothing)
        return self.together(work)

    def by_main(self, work: Callable[[], T]) -> T | None:
        """Do something on the main rank while the others wait; ``None`` on those.

        Where it fails the main rank raises the error, and the others leave.
        """
        if self.number == 1:
            return work()
        return self.together(work if self.is_main else _nothing)

    def with_model(self, work: Callable[[], T]) -> T | None:
        """Compute with the model: on the main rank, and on all where they hold parts of the state.

        Those need each other in every layer, so none can be told of another's error: the launcher
        ends them.
        """
        return work() if self.sharing else self.by_main(work)

    def from_main(self, value: T) -> T:
        """The main rank's value, on every rank; small, and can be pickled."""
        return self.every(value)[0]

    def every(self, value: T) -> list[T]:
        """The value of every rank, in their order; small, and can be pickled."""
        return [value] if self.number == 1 else self._exchange(0, value)

    def largest(self, number: int) -> int:
        """The largest of all ranks' numbers: one signal stops all of them."""
        if self.number == 1:
            return number
        here = torch.tensor(number, device=self.accelerator.device)
        return int(self.accelerator.reduce(here, reduction="max"))

    @contextmanager
    def told_by_main(self) -> Iterator[None]:
        """An error that every rank sees alike is told by the main one."""
        try:
            yield
        except KftError as error:
            self._is_over = True
            if self.is_main:
                raise
            raise SystemExit(error.exit_code) from error

    def require_equal(self, what: str, made: Callable[[], Any]) -> None:
        """See that every rank has the same.

        Args:
            what: Is compared, in the plural.
            made: Makes a small value of it.

        Raises:
            DataError: If one has another.
        """
        if self.number == 1:
            return
        values = self.every(made())
        odd = [rank for rank, other in enumerate(values) if other != values[0]]
        if odd:
            raise DataError(
                f"The ranks have different {what}",
                where=f"rank {odd[0]}",
                expected="the same files on every machine",
            )

    def left_alone(self, error: Exception) -> bool:
        """Whether an error is the end of another rank, seen from this one."""
        if self.number == 1 or self._is_over or isinstance(error, KftError):
            return False
        return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)

    def close(self) -> None:
        """Leave the others; a later run of this process connects anew."""
        if self.number > 1:
            self.accelerator.end_training()
            AcceleratorState._reset_state(reset_partial_state=True)

    def _exchange(self, code: int, value: Any) -> list[Any]:
        """Every rank's value; where one sends an exit code instead, all leave but the first such.

        All that ranks say to each other goes through here, so one that fails while the others
        ask something else is heard all the same.
        """
        told = gather_object([(code, value)])
        teller = next((rank for rank, (other, _) in enumerate(told) if other), None)
        if teller is not None:
            self._is_over = True
            if teller != self.rank:
                raise SystemExit(told[teller][0])
        return [other for _, other in told]


def lost_rank(rank: int, error: Exception) -> TrainError:
    """What is told where another rank has ended, with what the library in between said of it."""
    said = str(error).strip().partition("\n")[0]
    return TrainError(
        "Another process of this run ended, or can't be reached",
        where=f"seen from rank {rank}: {said}",
        expected="all ranks to take every step",
        hint="Its own message, or the launcher's, stands beside this one; `--resume` goes on.",
    )


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, KftError) else 1


def _nothing() -> None:
    """What the ranks do whose turn it isn't."""
