"""Several runs beside each other: what differed, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from kft.reporting.plots import Curve, curve_plot, points_of, smoothed
from kft.reporting.render import duration, gibibytes, metric_phrase, number, percent, phrase, render
from kft.reporting.run_page import metric_rows
from kft.reporting.run_plots import evaluation_points
from kft.reporting.svg import SERIES
from kft.reporting.views import ComparisonView


def comparison_page(view: ComparisonView) -> str:
    """A page about several runs.

    Args:
        view: What it shows.

    Returns:
        One HTML file that loads nothing.
    """
    names = list(dict.fromkeys(name for pair in view.pairs for name in pair))
    some = [pair for pair in view.pairs if pair]
    values = {
        "title": " · ".join(run.name for run in view.runs),
        "runs": view.runs,
        "metrics": _metrics(view),
        "other_rows": _other_rows(view),
        "pairs": [(name, [pair.get(name) for pair in view.pairs]) for name in names],
        "num_rows": next(iter(some[0].values()))["num_rows"] if some else 0,
        "keys": [(key, [_value(one) for one in found]) for key, found in view.keys.items()],
        "run_legend": [(_part(number), run.name, False) for number, run in enumerate(view.runs)],
        "plots": _plots(view),
    }
    return render("comparison.html", values)


def _part(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _metrics(view: ComparisonView) -> list[dict[str, Any]]:
    tables = [{row["name"]: row for row in metric_rows(run)} for run in view.runs]
    headlines = {(run.result.get("headline") or {}).get("metric") for run in view.runs}
    names = dict.fromkeys(name for table in tables for name in table)
    empty = {"tuned": None, "interval": None}
    return [
        {
            "name": name,
            "meaning": metric_phrase(name, view.runs[0].meanings),
            "is_headline": name in headlines,
            "cells": [table.get(name, empty) for table in tables],
        }
        for name in names
    ]


def _other_rows(view: ComparisonView) -> list[tuple[Markup, list[Any]]]:
    """What of general text was kept, the fit, steps, time, memory and size of each run."""
    names = (
        "general loss", "fit", "steps taken", "time", "peak memory", "trained parameters",
    )  # fmt: skip
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for run in view.runs:
        result = run.result
        fit, lost = result.get("fit") or {}, result.get("forgetting")
        cells = ["–"] * len(columns)
        if result:
            cells = [
                _kept(lost) if lost else "–",
                phrase(fit["verdict"]) if fit else "–",
                number(result["steps"]),
                duration(result["train_seconds"]),
                gibibytes(result["peak_memory_bytes"]),
                number(result["trainable_parameters"]),
            ]
        for name, cell in zip(columns, cells, strict=True):
            columns[name].append(cell)
    return [(phrase(name), cells) for name, cells in columns.items()]


def _kept(lost: Mapping[str, Any]) -> Markup:
    code = Markup("<code>{}</code>").format(lost["metric"])
    return Markup("{} {} ({})").format(number(lost["tuned"]), code, percent(lost["share"]))


def _plots(view: ComparisonView) -> list[tuple[Markup, Markup]]:
    """Curves of training and held-out loss; a pair for each task, whose losses share no unit."""
    tasks = list(dict.fromkeys(run.recipe["task"] for run in view.runs))
    drawn: list[tuple[Markup, str]] = []
    for place, task in enumerate(tasks):
        own = [(_part(n), run) for n, run in enumerate(view.runs) if run.recipe["task"] == task]
        training = [Curve(smoothed(points_of(run.log, "loss")), part) for part, run in own]
        held_out = [Curve(evaluation_points(run), part, has_dots=True) for part, run in own]
        named = Markup(" · <code>{}</code>").format(task) if len(tasks) > 1 else Markup()
        drawn += [
            (phrase("training loss") + named, curve_plot(f"training-{place}", training)),
            (phrase("held-out loss") + named, curve_plot(f"held-out-{place}", held_out)),
        ]
    # Made by this program from numbers alone, so not escaped.
    return [(title, Markup(plot)) for title, plot in drawn if plot]  # noqa: S704


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
