"""The plots of a run's report."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from kft.reporting.plots import (
    Curve,
    curve_plot,
    histogram_plot,
    layers_plot,
    points_of,
    scatter_plot,
    small_plot,
    smoothed,
)
from kft.reporting.render import phrase
from kft.reporting.views import NumberView, RunView


def evaluation_points(view: RunView) -> list[tuple[float, float]]:
    """Held-out loss by step: before training, during, and after."""
    points = points_of(view.log, "eval_loss")
    before = view.result.get("base", {}).get("eval_loss")
    after = view.result.get("tuned", {}).get("eval_loss")
    if before is not None:
        points = [(0, before), *points]
    is_known = points and points[-1][0] == view.result.get("steps")
    # With the best weights put back, the last measurement is of an earlier step.
    best = view.result.get("best") or {}
    step = best["step"] if best.get("is_saved") else view.result.get("steps")
    if after is not None and not is_known and step is not None:
        points = sorted({*points, (step, after)})
    return points


def plots_of(view: RunView) -> dict[str, Any]:
    """Every plot of the page by name, as markup; empty where there is nothing to draw."""
    log, result = view.log, view.result
    training = points_of(log, "loss")
    best = (result.get("best") or {}).get("step")
    curves = [
        Curve(training, "base", is_faint=True),
        Curve(smoothed(training), "one"),
        Curve(evaluation_points(view), "two", has_dots=True),
    ]
    memory = [(step, held / 2**30) for step, held in points_of(log, "peak_memory_bytes")]
    small = {
        "learning rate": small_plot("rate", points_of(log, "learning_rate"), at_zero=True),
        "grad norm": small_plot("norm", points_of(log, "grad_norm"), at_zero=True),
        "layer norms": layers_plot("layers", log),
        "tokens per second": small_plot("speed", points_of(log, "tokens_per_second"), at_zero=True),
        "memory": small_plot("memory", memory, at_zero=True),
    }
    tokens = result.get("tokens", {}).get("histogram", {"edges": [], "rows": []})
    limit = view.recipe["data"]["max_length"]
    scatter = ""
    if isinstance(view.predictions, NumberView):
        seen = view.predictions
        scatter = scatter_plot("scatter", seen.truths, seen.base, seen.tuned)
    # Made by this program from numbers alone, so not escaped.
    return {
        "loss": Markup(curve_plot("loss", curves, mark=best)),  # noqa: S704
        "small": [(phrase(name), Markup(plot)) for name, plot in small.items() if plot],  # noqa: S704
        "lengths": Markup(  # noqa: S704
            histogram_plot("lengths", tokens["edges"], tokens["rows"], limit=limit)
        ),
        "scatter": Markup(scatter),  # noqa: S704
    }


def loss_legend(view: RunView) -> list[tuple[str, Markup, bool]]:
    """Parts of the loss's plot: its colour, what it is, and whether it is faint."""
    entries = [("base", phrase("training"), True), ("one", phrase("training mean"), False)]
    if evaluation_points(view):
        entries.append(("two", phrase("held out"), False))
    return entries
