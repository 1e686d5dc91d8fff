"""The command ``kft bench`` and its table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from kft.cli.commands import cli, takes_json, takes_recipe, takes_traceback
from kft.cli.messages import AtLeast, as_json


@cli.command()
@takes_recipe
@click.option("--steps", type=AtLeast(1), default=5, help="Steps to time, after one that isn't.")
@takes_json
@takes_traceback
def bench(recipe: str, overrides: Sequence[str], steps: int, wants_json: bool) -> None:
    """Time a few steps of a recipe; writes nothing."""
    from kft.api.schema import read_recipe

    settings = read_recipe(recipe, overrides)
    from kft.cli.display import StderrConsole, TerminalObserver

    observer = TerminalObserver(StderrConsole(), logging_steps=settings.train.logging_steps)
    with contextlib.redirect_stdout(sys.stderr), contextlib.closing(observer):
        observer.stage("starting")
        from kft.api.bench import bench as time_recipe

        measured = time_recipe(settings, steps=steps, observer=observer).as_dict()
    click.echo(as_json(measured) if wants_json else bench_text(measured))


def bench_text(measured: Mapping[str, Any]) -> str:
    """The table: speed, memory, and where the time goes."""
    from kft.cli.tables import bytes_text, time_text  # slow to import, for every command

    seconds = measured["seconds"]
    step = sum(value for name, value in seconds.items() if name != "loading")
    lines = [
        ("device", f"{measured['device']}, {measured['precision']}"),
        ("tokens/s", f"{measured['tokens_per_second']:,.0f}"),
        ("targets/s", f"{measured['targets_per_second']:,.0f}"),
        (
            "products",
            f"{measured['flop_per_second'] / 1e9:,.1f} GFLOP/s, {measured['utilization']:.0%} of "
            f"the {measured['peak_flop_per_second'] / 1e9:,.1f} that a large one reached here",
        ),
        ("peak memory", bytes_text(measured["peak_memory_bytes"])),
        ("loading", time_text(seconds["loading"])),
        ("a step", f"{step:.3f} s, median of {measured['steps']}"),
    ]
    lines += [
        (f"  {name}", f"{seconds[name]:.3f} s ({seconds[name] / step:.0%})")
        for name in ("data", "forward", "backward", "optimizer")
    ]
    return "\n".join(f"{name:12} {value}" for name, value in lines)
