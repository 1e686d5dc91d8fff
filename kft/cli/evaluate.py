"""The command ``kft evaluate``: one model, several side by side, or benchmarks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from kft.cli.commands import cli, stdout_width, takes_json, takes_traceback
from kft.cli.messages import AtLeast, as_json, show_finding
from kft.errors import UsageError


@cli.command()
@click.argument("places", nargs=-1, required=True, metavar="RUN|MODEL...")
@click.option("--data", metavar="FILE", help="Rows to measure on; else the run's held-out rows.")
@click.option("--max-rows", type=AtLeast(1), help="Use the first rows only.")
@click.option("--harness", metavar="TASKS", help="Run lm-evaluation-harness's tasks instead.")
@takes_json
@takes_traceback
def evaluate(
    places: Sequence[str],
    data: str | None,
    max_rows: int | None,
    harness: str | None,
    wants_json: bool,
) -> None:
    """Measure runs and models on the same rows."""
    if harness is not None and data is not None:
        raise UsageError(
            "`--harness` brings its own rows", expected="`--harness` or `--data`, not both"
        )
    with contextlib.redirect_stdout(sys.stderr):
        if harness is None:
            from kft.api.evaluate import evaluate as evaluate_places

            results = evaluate_places(
                list(places), data=data, max_rows=max_rows, on_finding=show_finding
            )
        else:
            from kft.api.harness import run_harness

            names = [name.strip() for name in harness.split(",") if name.strip()]
            results = run_harness(list(places), names, limit=max_rows)
    if wants_json:
        click.echo(as_json(results))
        return
    from kft.cli.tables import evaluation_table

    click.echo(evaluation_table(results, stdout_width()))
    for text in against_texts(results, stdout_width()):
        click.echo(f"\n{text}")


def against_texts(results: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    """What each model's numbers are against the first one's, with intervals.

    Args:
        results: As ``kft.api.evaluate.evaluate`` gives them.
        width: Cells of the terminal.
    """
    from kft.cli.tables import interval_text, number_text, table, value_text

    texts = []
    for place, result in results.items():
        against = result.get("against")
        if against is None:
            continue
        title = f"{value_text(place)} against {value_text(against['model'])}"
        rows = [
            [
                name,
                number_text(found["difference"], signed=True),
                interval_text(found),
                found["outcome"] or "",
            ]
            for name, found in against["differences"].items()
        ]
        if rows:
            header = ["", "difference", "95 % interval", "outcome"]
            texts.append(f"{title}\n{table(header, rows, width)}")
        else:
            texts.append(f"{title}: their rows differ, or are too few to tell more")
    return texts
