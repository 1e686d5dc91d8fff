"""The numbers of a training run while it goes on, and the two lines that show them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kft.cli.messages import visible
from kft.cli.tables import bytes_text, number_text, time_text

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "-\\|/"
_SHORTEST_BAR = 6

Clock = Callable[[], float]


class Smoothed:
    """An exponential moving average that is right from the first value on.

    The weights of the values seen so far are divided by their sum, so the first average is the
    first value and not a share of it.

    Args:
        decay: Weight of the past, from 0 (none) to below 1.

    Source:
        Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", section 3 (correction of
        the initialization bias).

    Example:
        >>> loss = Smoothed(0.5)
        >>> loss.add(4.0), loss.add(1.0)
        (4.0, 2.0)
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self.total = 0.0
        self.weight = 0.0

    def add(self, value: float) -> float:
        """Take a value in and return the average."""
        self.total = self.decay * self.total + (1 - self.decay) * value
        self.weight = self.decay * self.weight + (1 - self.decay)
        return self.total / self.weight


class Training:
    """What is known of a run after its latest step.

    Args:
        clock: Seconds from any beginning.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._smoothed_loss = Smoothed()
        self._smoothed_speed = Smoothed()
        self._first: tuple[int, float] | None = None
        self.step = 0
        self.total_steps = 0
        self.loss = math.nan
        self.tokens_per_second = math.nan
        self.seconds_left = math.nan
        self.record: Mapping[str, float] = {}

    def add(self, record: Mapping[str, float], total_steps: int) -> None:
        """Take in the record of a step."""
        now = self._clock()
        self.record = record
        self.step, self.total_steps = int(record["step"]), total_steps
        self.loss = self._smoothed_loss.add(record["loss"])
        self.tokens_per_second = self._smoothed_speed.add(record["tokens_per_second"])
        first_step, first_time = self._first = self._first or (self.step, now)
        if self.step > first_step:
            step_seconds = (now - first_time) / (self.step - first_step)
            self.seconds_left = step_seconds * (total_steps - self.step)

    @property
    def time_left(self) -> str:
        """The time left in words; empty after the first step, which says nothing, and the last."""
        is_known = self.seconds_left > 0  # not so for "not a number"
        return f"{time_text(self.seconds_left)} left" if is_known else ""

    def log_line(self) -> str:
        """A plain line; the loss is the step's own, as it is stored."""
        parts = [
            f"step {self.step}/{self.total_steps}",
            *self._parts(self.record["loss"], self.record["tokens_per_second"]),
            self.time_left,
        ]
        return "  ".join(part for part in parts if part)

    def live_parts(self) -> list[str]:
        """Loss (smoothed), speed, learning rate and memory, the most wanted first."""
        return self._parts(self.loss, self.tokens_per_second)

    def _parts(self, loss: float, tokens_per_second: float) -> list[str]:
        memory = self.record.get("peak_memory_bytes", 0)
        return [
            f"loss {number_text(float(loss))}",
            f"{tokens_per_second:,.0f} tokens/s",
            f"learning rate {self.record['learning_rate']:.2e}",
            *([bytes_text(memory)] if memory else []),
        ]


class StageDisplay:
    """The live lines at the bottom of a terminal: the stage, and the training's numbers.

    Args:
        title: What the run is doing.
        clock: Seconds from any beginning.
    """

    def __init__(self, title: str, clock: Clock = time.monotonic) -> None:
        self.title = visible(title)
        self.training: Training | None = None
        self._clock = clock
        self._started = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return self._clock() - self._started

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw into the width there is: parts that don't fit are left out, never wrapped."""
        frames = _ASCII_SPINNER if options.ascii_only else _SPINNER
        spinner = frames[int(self.seconds * 10) % len(frames)]
        width = options.max_width
        if self.training is None:
            yield _one_line(f"{spinner} {self.title}  {time_text(self.seconds)}", width)
            return
        yield from self._progress(spinner, self.training, width)
        separator = " | " if options.ascii_only else " · "
        yield _one_line("  " + _fitting(self.training.live_parts(), separator, width - 2), width)

    def _progress(self, spinner: str, training: Training, width: int) -> RenderResult:
        head = f"{spinner} {self.title}"
        tail = f"{training.step}/{training.total_steps}"
        if training.time_left:
            tail += f"  {training.time_left}"
        bar_width = width - cell_len(head) - cell_len(tail) - 2
        if bar_width < _SHORTEST_BAR:
            yield _one_line(_fitting([head, tail], " ", width), width)
            return
        bar = ProgressBar(training.total_steps, training.step, width=bar_width)
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(head), bar, Text(tail))
        yield line


def _one_line(text: str, width: int) -> Text:
    line = Text(text, no_wrap=True, overflow="ellipsis")
    line.truncate(width, overflow="ellipsis")
    return line


def _fitting(parts: Sequence[str], separator: str, width: int) -> str:
    """As many of the parts as fit, from the first on; one at least."""
    text = parts[0]
    for part in parts[1:]:
        if cell_len(text + separator + part) > width:
            break
        text += separator + part
    return text
