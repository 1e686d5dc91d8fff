"""Curves of a run as matplotlib figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import pandas
from matplotlib.figure import Figure


class Curves(Figure):
    """A figure that a notebook shows by itself, whatever backend it was started with."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def loss_image(metrics: pandas.DataFrame, result: Mapping[str, Any]) -> str:
    """:func:`loss_figure` as an ``<img>`` element that holds its own picture."""
    picture = base64.b64encode(loss_figure(metrics, result)._repr_png_()).decode("ascii")
    return f'<img alt="loss over the steps" src="data:image/png;base64,{picture}">'


def loss_figure(metrics: pandas.DataFrame, result: Mapping[str, Any]) -> Curves:
    """Training loss over the steps, with the held-out loss before, during and after.

    Args:
        metrics: The lines of ``metrics.jsonl``.
        result: The content of ``result.json``; its first and last held-out loss are marked.
    """
    figure = Curves(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    training = metrics.dropna(subset=["loss"]) if "loss" in metrics else metrics
    axes.plot(training["step"], training["loss"], linewidth=1, label="training")
    points = []
    if "eval_loss" in metrics:
        during = metrics.dropna(subset=["eval_loss"])
        points = list(zip(during["step"], during["eval_loss"], strict=True))
    before, after = result.get("base", {}), result.get("tuned", {})
    if before and after:
        points = [(0, before["eval_loss"]), *points, (result["steps"], after["eval_loss"])]
    if points:
        steps, losses = zip(*points, strict=True)
        axes.plot(steps, losses, marker="o", label="held out")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per target)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
