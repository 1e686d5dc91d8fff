"""The command ``kft resume-check`` and its table."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from kft.cli.commands import cli, takes_json, takes_traceback
from kft.cli.messages import AtLeast, as_json, visible
from kft.errors import TrainError, counted

if TYPE_CHECKING:
    from kft.api.resume_check import ResumeCheck


@cli.command("resume-check")
@click.argument("run")
@click.option("--steps", type=AtLeast(2), default=6, help="Optimizer steps to take.")
@takes_json
@takes_traceback
def resume_check(run: str, steps: int, wants_json: bool) -> None:
    """Prove that a run goes on to the same bits."""
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.resume_check import resume_check as check_run

        checked = check_run(run, steps=steps)
    click.echo(as_json(checked.as_dict()) if wants_json else check_text(checked))
    if not checked.passed:
        first = next(one for one in checked.compared if one.first_difference is not None)
        raise TrainError(
            f"A stop after step {checked.stopped_after} changes the run: other {first.name}",
            where=first.first_difference,
            expected=f"the same bits after {counted(checked.steps, 'step')}",
        )


def check_text(checked: ResumeCheck) -> str:
    """A line for each kind of value."""
    title = (
        f"{counted(checked.steps, 'step')} straight through, and stopped after step "
        f"{checked.stopped_after}:"
    )
    width = max(len(one.name) for one in checked.compared)
    lines = [
        f"{one.name:{width}}  {one.values:>6,}  "
        + ("the same bits" if one.first_difference is None else visible(one.first_difference))
        for one in checked.compared
    ]
    return "\n".join([title, *lines])
