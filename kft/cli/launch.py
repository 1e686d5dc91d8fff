"""What a run's words become, in the one process there is or in each of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kft.api.launched import launched_rank, num_joined, repeats_another
from kft.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from kft.cli.display import TerminalObserver


def recipe_of(path: str, overrides: Sequence[str]) -> Any:
    """Read a recipe. What is wrong with it is said by one process of each machine.

    Raises:
        RecipeError: If it can't be read.
    """
    from kft.api.schema import read_recipe

    try:
        return read_recipe(path, overrides)
    except RecipeError as error:
        if repeats_another():
            raise click.exceptions.Exit(error.exit_code) from error
        raise


def observer_of(settings: Any) -> TerminalObserver:
    """What shows the run: the main rank speaks for all."""
    from kft.cli.display import StderrConsole, TerminalObserver

    console = StderrConsole()
    console.quiet = bool(launched_rank())
    return TerminalObserver(console, logging_steps=settings.train.logging_steps)


def require_one_process(command: str) -> None:
    """Refuse a command that several processes would each do whole.

    Raises:
        UsageError: If a launcher started several.
    """
    if num_joined() > 1:
        raise UsageError(
            f"`kft {command}` was launched as {num_joined()} processes",
            expected="one process",
            hint="Only `kft finetune` runs in several.",
        )
