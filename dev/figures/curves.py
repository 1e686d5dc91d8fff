"""Pictures of numbers: GELU by its formulas, and what benchmarks/concepts.py measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import erf, exp, pi, sqrt, tanh
from pathlib import Path
from typing import Any

from dev.figures.chart import Axis, Frame
from dev.figures.svg import INKS, Drawing

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/concepts.json"


def measured() -> dict[str, Any]:
    """What was measured."""
    content: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return content


def gelu_exact(x: float) -> float:
    """``x`` times the normal distribution's share below ``x``."""
    return 0.5 * x * (1 + erf(x / sqrt(2)))


def gelu_tanh(x: float) -> float:
    """The approximation that GPT-2 uses."""
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def _over(function: Callable[[float], float], low: float, high: float) -> list[tuple[float, float]]:
    steps = 240
    values = [low + (high - low) * step / steps for step in range(steps + 1)]
    return [(x, function(x)) for x in values]


def gelu() -> str:
    """Both forms, and a thousand times their difference."""
    drawing = Drawing(760, 320, "GELU, exact and by tanh, and their difference")
    across = Axis(-4, 4, (-4, -2, 0, 2, 4), "x")
    left = Frame(drawing, 60, 50, 290, 210, across, Axis(-1, 4, (-1, 0, 1, 2, 3, 4), "GELU(x)"))
    left.draw()
    left.curve(_over(lambda x: max(0.0, x), -4, 4), "faint", thin=True)
    left.curve(_over(gelu_exact, -4, 4), "a")
    left.curve(_over(gelu_tanh, -4, 4), "b", thin=True)
    left.key(84, 76, "exact (BERT)", "a")
    left.key(84, 96, "tanh (GPT-2), on top of it", "b")
    left.key(84, 116, "ReLU", "faint")
    up = Axis(-0.6, 0.6, (-0.5, -0.25, 0, 0.25, 0.5), "tanh form − exact form, × 1000")
    right = Frame(drawing, 440, 50, 290, 210, across, up)
    right.draw()
    right.curve(_over(lambda x: 1000 * (gelu_tanh(x) - gelu_exact(x)), -4, 4), "c")
    return drawing.svg()


def random_or_pretrained() -> str:
    """Held-out loss of the same rows learned from three starting points."""
    runs = measured()["runs"]
    drawing = Drawing(760, 360, "Held-out loss from random weights and from the checkpoint")
    across = Axis(0, 162, (0, 27, 54, 81, 108, 135, 162), "optimizer steps (27 are an epoch)")
    up = Axis(1, 10, (2, 4, 6, 8, 10), "held-out loss, nats per target")
    frame = Frame(drawing, 60, 50, 660, 250, across, up)
    frame.draw()
    names = {
        "random": "random weights, all trained",
        "lora": "checkpoint, LoRA",
        "checkpoint": "checkpoint, all trained",
    }
    for number, (name, words) in enumerate(names.items()):
        frame.curve(runs[name]["eval"], INKS[number])
        last = runs[name]["eval"][-1][1]
        frame.key(430, 76 + 20 * number, f"{words}: ends at {last:.2f}", INKS[number])
    return drawing.svg()


def fits() -> str:
    """A run that learns too much, one that learns too little, and one between."""
    runs = measured()["runs"]
    drawing = Drawing(900, 340, "Over- and underfitting, measured")
    panels = {
        "overfit": "30 rows, 45 epochs",
        "checkpoint": "420 rows, 6 epochs",
        "underfit": "LoRA, a tenth of the rate, 2 epochs",
    }
    for number, (name, words) in enumerate(panels.items()):
        run = runs[name]
        last = run["eval"][-1][0]
        across = Axis(0, last, [last * part // 3 for part in range(4)], "steps")
        up = Axis(0, 6, (0, 2, 4, 6), "loss, nats per target" if number == 0 else "")
        frame = Frame(drawing, 55 + 290 * number, 76, 245, 200, across, up)
        drawing.text(frame.x + 122, 26, words, bold=True)
        drawing.text(frame.x + 122, 46, f"kft says: {run['verdict']}", size=12, ink="faint")
        frame.draw()
        frame.curve(run["train"], "b", thin=True)
        frame.curve(run["eval"], "a")
        for point in run["eval"]:
            drawing.dot(*frame.at(*point), "a")
    drawing.text(55, 330, "thick: held-out rows; thin: training rows", ink="faint", anchor="start")
    return drawing.svg()


def rnn_gradient() -> str:
    """How much of a gradient arrives some steps back."""
    found = measured()["gradients"]
    drawing = Drawing(760, 360, "Gradient of the last output with respect to earlier inputs")
    ticks = [10.0**power for power in (-20, -15, -10, -5, 0)]

    def form(value: float) -> str:
        return "1" if value == 1 else f"1e{round(len(f'{1 / value:.0f}') - 1) * -1}"

    across = Axis(0, 63, (0, 10, 20, 30, 40, 50, 60), "tokens back")
    up = Axis(1e-22, 1e2, ticks, "gradient, relative to that of the last input", True, form)
    frame = Frame(drawing, 70, 50, 650, 250, across, up)
    frame.draw()
    for number, (name, values) in enumerate(found.items()):
        frame.curve(list(enumerate(values)), INKS[number])
        words = {"attention": "attention (one encoder layer)"}.get(name, name)
        frame.key(90, 250 + 18 * number, words, INKS[number])
    return drawing.svg()


def nf4() -> str:
    """The levels of NF4 under the distribution that they were made for."""
    levels = measured()["nf4"]["levels"]
    drawing = Drawing(760, 300, "The sixteen levels of NF4 under a normal distribution")
    across = Axis(-1.05, 1.05, (-1, -0.5, 0, 0.5, 1), "weight / largest of its block of 64")
    frame = Frame(drawing, 50, 40, 680, 190, across, Axis(0, 1.1, (), ""))
    frame.draw()
    widest = 2.6  # the expected largest of 64 normal numbers, in standard deviations
    frame.curve(_over(lambda x: exp(-((x * widest) ** 2) / 2), -1.05, 1.05), "a")
    for level in levels:
        frame.curve([(level, 0), (level, exp(-((level * widest) ** 2) / 2))], "b")
        drawing.dot(*frame.at(level, 0), "b")
    drawing.text(390, 24, "narrow steps where most weights are, wide ones at the ends", size=12)
    return drawing.svg()
