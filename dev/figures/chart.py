"""Curves in a frame with two axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10

from dev.figures.svg import Drawing

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Args:
        low: Value at its start.
        high: Value at its end.
        ticks: Values that are written.
        label: What it measures, with the unit.
        logarithmic: Each power of ten takes the same room.
        form: How a tick is written.
    """

    low: float
    high: float
    ticks: Sequence[float]
    label: str
    logarithmic: bool = False
    form: Callable[[float], str] = "{:g}".format

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if self.logarithmic:
            value = max(value, self.low)
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """The rectangle of a chart within a drawing."""

    drawing: Drawing
    x: float
    y: float
    width: float
    height: float
    across: Axis
    up: Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point of the chart."""
        return (
            self.x + self.width * self.across.share(x),
            self.y + self.height * (1 - self.up.share(y)),
        )

    def draw(self) -> None:
        """The grid, its numbers and what they measure."""
        for value in self.up.ticks:
            _, y = self.at(self.across.low, value)
            self.drawing.line([(self.x, y), (self.x + self.width, y)], ink="grid", thin=True)
            self.drawing.text(
                self.x - 8, y + 4, self.up.form(value), ink="faint", size=11, anchor="end"
            )
        for value in self.across.ticks:
            x, _ = self.at(value, self.up.low)
            bottom = self.y + self.height
            self.drawing.line([(x, bottom), (x, bottom + 4)], ink="faint", thin=True)
            self.drawing.text(x, bottom + 18, self.across.form(value), ink="faint", size=11)
        middle = self.x + self.width / 2
        self.drawing.text(middle, self.y + self.height + 36, self.across.label, size=12)
        self.drawing.text(self.x - 34, self.y - 12, self.up.label, size=12, anchor="start")

    def curve(self, points: Points, ink: str, *, thin: bool = False) -> None:
        """A line through points of the chart."""
        self.drawing.line([self.at(x, y) for x, y in points], ink=ink, thin=thin)

    def key(self, x: float, y: float, words: str, ink: str) -> None:
        """A name beside a short line in its colour; pixels."""
        self.drawing.line([(x, y - 4), (x + 22, y - 4)], ink=ink)
        self.drawing.text(x + 28, y, words, size=12, anchor="start")
