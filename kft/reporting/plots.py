"""The plots of a report: curves, a histogram, predicted against true.

Axes carry numbers only: what they mean stands beside them in the page, in the reader's language.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kft.reporting.svg import PARTS, drawing, inline_svg

Points = Sequence[tuple[float, float]]

MOST_POINTS = 600
"""Points of a curve that are drawn; a longer one is averaged over windows of its steps."""

MOST_DOTS = 800
"""Rows of a scatter plot that are drawn, evenly spaced."""


DIGIT = 0.088
"""Inches that a digit of the ticks takes, in the widest of the usual fonts at 10 points."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Args:
        points: Pairs of step and value; those that are no numbers are left out.
        part: Name of its colour.
        is_faint: Drawn thin and pale, as raw values behind their average.
        has_dots: Every point is marked.
    """

    points: Points
    part: str
    is_faint: bool = False
    has_dots: bool = False


def curve_plot(name: str, curves: Sequence[Curve], *, mark: float | None = None) -> str:
    """Curves over the steps, as SVG; empty when there is nothing to draw.

    Args:
        name: Of the plot, for its ids.
        curves: The lines, the lowest first.
        mark: Step at which a dashed line stands.
    """
    drawn = [(curve, _thinned(_finite(curve.points))) for curve in curves]
    if not any(points for _, points in drawn):
        return ""
    with drawing():
        figure, axes = _axes((4.6, 2.8))
        for curve, points in drawn:
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=PARTS[curve.part],
                    linewidth=0.8 if curve.is_faint else 1.8,
                    alpha=0.45 if curve.is_faint else 1.0,
                    marker="o" if curve.has_dots else None,
                    markersize=4,
                )
        if mark is not None:
            axes.axvline(mark, color=PARTS["soft"], linewidth=1, linestyle="--")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.02)
        return _finished(figure, axes, name)


def small_plot(name: str, points: Points, *, at_zero: bool = False) -> str:
    """One quantity over the steps, small; empty when there is nothing to draw.

    Args:
        name: Of the plot, for its ids.
        points: Pairs of step and value.
        at_zero: Whether the axis begins at 0.
    """
    found = _thinned(_finite(points))
    if not found:
        return ""
    with drawing():
        figure, axes = _axes((3.4, 1.9))
        axes.plot(*zip(*found, strict=True), color=PARTS["one"], linewidth=1.3)
        if at_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        return _finished(figure, axes, name)


def layers_plot(name: str, log: Sequence[Mapping[str, Any]]) -> str:
    """Norm of each layer's gradient over the steps, the deeper the darker; empty without any.

    Args:
        name: Of the plot, for its ids.
        log: Lines of ``metrics.jsonl``, some of them with ``grad_norm_by_layer``.
    """
    seen = [(line["step"], line["grad_norm_by_layer"]) for line in log if _has_layers(line)]
    layers = list(dict.fromkeys(layer for _, norms in seen for layer in norms))
    with drawing():
        figure, axes = _axes((3.4, 1.9))
        for depth, layer in enumerate(layers, 1):
            points = [(step, norms[layer]) for step, norms in seen if norms.get(layer)]
            found = _thinned(_finite(points))
            if found:
                alpha = 1 - 0.8 * (1 - depth / len(layers))
                axes.plot(*zip(*found, strict=True), color=PARTS["one"], linewidth=1.2, alpha=alpha)
        if not axes.lines:
            return ""
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return _finished(figure, axes, name)


def _has_layers(line: Mapping[str, Any]) -> bool:
    return bool(line.get("grad_norm_by_layer"))


def histogram_plot(
    name: str, edges: Sequence[float], rows: Sequence[int], *, limit: float | None = None
) -> str:
    """Rows by their number of tokens.

    Args:
        name: Of the plot, for its ids.
        edges: Of the bins, one more than ``rows``; the last one belongs to the last bin.
        rows: In each bin.
        limit: Where a dashed line stands, if it lies near the bins.
    """
    if not rows:
        return ""
    starts = np.array(edges[:-1], dtype=float)
    widths = np.maximum(np.diff(np.array(edges, dtype=float)), 1.0)
    with drawing():
        figure, axes = _axes((4.6, 2.2))
        axes.bar(starts, rows, width=widths * 0.92, align="edge", color=PARTS["one"])
        end = float(starts[-1] + widths[-1])
        if limit is not None and limit <= 1.3 * end:
            axes.axvline(limit, color=PARTS["two"], linewidth=1.4, linestyle="--")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(visible=False, axis="x")
        return _finished(figure, axes, name)


def scatter_plot(
    name: str, truths: Sequence[float], base: Sequence[float], tuned: Sequence[float]
) -> str:
    """Predicted (up) against true (right), before and after; the line is where they agree.

    Args:
        name: Of the plot, for its ids.
        truths: Of each row.
        base: What the base model said.
        tuned: What the tuned model said.
    """
    every = max(1, math.ceil(len(truths) / MOST_DOTS))
    columns = [np.array(column[::every], dtype=float) for column in (truths, base, tuned)]
    if not len(columns[0]):
        return ""
    # The base model may say anything; the frame is what is true and what was learned.
    shown = np.concatenate([columns[0], columns[2]])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = 0.05 * (high - low or 1.0)
    with drawing():
        figure, axes = _axes((4.4, 4.0))
        axes.plot([low, high], [low, high], color=PARTS["soft"], linewidth=1, linestyle="--")
        for part, said in (("base", columns[1]), ("one", columns[2])):
            axes.scatter(
                columns[0], said, s=11, color=PARTS[part], alpha=0.5, linewidths=0, clip_on=True
            )
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - 2 * room, high + 2 * room)
        return _finished(figure, axes, name)


def smoothed(points: Points, *, share: float = 0.04) -> list[tuple[float, float]]:
    """A centred average over a share of the points, for the eye.

    Example:
        >>> smoothed([(1, 3.0), (2, 1.0), (3, 5.0)], share=1.0)
        [(1, 2.0), (2, 3.0), (3, 3.0)]
    """
    found = _finite(points)
    half = int(len(found) * share / 2)
    totals = np.concatenate([[0.0], np.cumsum([value for _, value in found])])
    averages = []
    for at, (step, _) in enumerate(found):
        first, last = max(0, at - half), min(len(found), at + half + 1)
        averages.append((step, float((totals[last] - totals[first]) / (last - first))))
    return averages


def points_of(log: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """A quantity of the log's lines by step, where a line has it."""
    return [(line["step"], line[name]) for line in log if line.get(name) is not None]


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size)
    return figure, figure.add_subplot()


def _finished(figure: Figure, axes: Axes, name: str) -> str:
    """The figure as SVG, with the room its numbers take.

    A layout of matplotlib's own would draw everything four times to find that: half of what a
    short run takes.
    """
    width, height = figure.get_size_inches()
    axis, (low, high) = axes.yaxis, axes.get_ylim()
    texts = [
        text
        for formatter, ticks in (
            (axis.get_major_formatter(), axis.get_majorticklocs()),
            (axis.get_minor_formatter(), axis.get_minorticklocs()),
        )
        for text in formatter.format_ticks([tick for tick in ticks if low <= tick <= high])
    ]
    longest = max(map(_shown_length, texts), default=1)
    above = 0.24 if axis.get_major_formatter().get_offset() else 0.1
    figure.subplots_adjust(
        left=(0.12 + DIGIT * longest) / width,
        right=1 - 0.2 / width,
        bottom=0.28 / height,
        top=1 - above / height,
    )
    return inline_svg(figure, name)


def _shown_length(text: str) -> int:
    r"""Characters of a tick's text as it is drawn: ``$\mathdefault{10^{-3}}$`` takes four."""
    return len(re.sub(r"\\mathdefault|[${}^]", "", text.replace(r"\times", "xx")))


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most :data:`MOST_POINTS` of them, each the mean of a window."""
    every = math.ceil(len(points) / MOST_POINTS)
    if every <= 1:
        return points
    means = []
    for start in range(0, len(points), every):
        steps, values = zip(*points[start : start + every], strict=True)
        means.append((sum(steps) / len(steps), sum(values) / len(values)))
    return means
