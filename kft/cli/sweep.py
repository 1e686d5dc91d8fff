"""The command ``kft sweep`` and its table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from kft.cli.commands import cli, stdout_width, takes_json, takes_traceback
from kft.cli.messages import AtLeast, OneOf, as_json, tell

if TYPE_CHECKING:
    from kft.api.drawing import Sampler


@cli.command()
@click.argument("recipe")
@click.argument("keys", nargs=-1, required=True, metavar="KEY=V1,V2...")
@click.option("--trials", type=AtLeast(1), help="Draw so many through optuna; else every one.")
@click.option(
    "--sampler",
    type=OneOf("tpe", "random"),
    default="tpe",
    metavar="tpe|random",
    help="How trials are drawn.",
)
@takes_json
@takes_traceback
def sweep(
    recipe: str, keys: Sequence[str], trials: int | None, sampler: str, wants_json: bool
) -> None:
    """Run a recipe with several values of some keys.

    Prints the folder. The same command again goes on where it stopped. `KEY=LOW..HIGH` is a
    range for `--trials`.
    """
    from kft.api.sweep_space import read_space

    space = read_space(recipe, keys)  # a wrong key answers before torch is loaded
    from kft.cli.display import StderrConsole, TerminalObserver

    observer = TerminalObserver(StderrConsole(), logging_steps=space.recipe.train.logging_steps)
    with contextlib.redirect_stdout(sys.stderr), contextlib.closing(observer):
        observer.stage("starting")
        from kft.api.sweep import sweep as run_trials

        done = run_trials(space, trials=trials, sampler=cast("Sampler", sampler), observer=observer)
    if wants_json:
        click.echo(as_json(done.as_dict()))
        return
    tell(trial_table(done.as_dict(), [trial.name for trial in done.ranked], stdout_width()))
    click.echo(done.folder)


def trial_table(done: Mapping[str, Any], ranked: Sequence[str], width: int) -> str:
    """A line for each trial, the best first, then those that failed.

    Args:
        done: The sweep, as it is printed with ``--json``.
        ranked: Names of the trials that have a metric, the best first.
        width: Cells of the terminal.
    """
    from kft.cli.tables import table, value_text  # slow to import, for every command

    trials = {trial["name"]: trial for trial in done["trials"]}
    names = [*ranked, *(name for name in trials if name not in ranked)]
    keys = list(trials[names[0]]["values"])
    rows = [
        [
            name,
            *(trials[name]["values"][key] for key in keys),
            trials[name]["status"]
            if trials[name]["metric"] is None
            else value_text(trials[name]["metric"]),
        ]
        for name in names
    ]
    return table(["", *keys, str(done["metric"])], rows, width)
