"""What a run tells a person: live on a terminal, plain lines in a log. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kft.api.observer import Sample
from kft.cli.messages import finding_text, visible, with_colors
from kft.cli.progress import Clock, StageDisplay, Training
from kft.cli.tables import comparison_table, pairs, time_text, value_text, verdict_lines
from kft.errors import Finding

_SIDE_BY_SIDE = 100
"""Cells from which on the answers before and after stand beside each other."""


class StderrConsole(Console):
    """The terminal behind stderr. A run goes on when nobody reads it any more."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Fall silent."""
        self.quiet = True


class TerminalObserver:
    """Shows a run; receives what :class:`kft.api.observer.Observer` tells.

    On a terminal the last lines are live and everything else scrolls past above them. Elsewhere
    each stage and every ``logging_steps``-th step is one plain line.

    Args:
        console: Where to write.
        logging_steps: Optimizer steps between plain log lines.
        clock: Seconds from any beginning.
        auto_refresh: Redraw the live lines four times a second; ``False`` only when a test
            wants to see exactly what is drawn.
    """

    def __init__(
        self,
        console: Console,
        *,
        logging_steps: int = 10,
        clock: Clock = time.monotonic,
        auto_refresh: bool = True,
    ) -> None:
        self.console = console
        self.logging_steps = logging_steps
        self.is_live = console.is_terminal and not console.is_dumb_terminal
        self._clock = clock
        self._auto_refresh = auto_refresh
        self._stage: StageDisplay | None = None
        self._live: Live | None = None

    def stage(self, title: str) -> None:
        """Begin a phase of the run."""
        self._end_stage()
        self._stage = StageDisplay(title, self._clock)
        if not self.is_live:
            self._line(visible(title))
        elif self._live is None:
            self._live = Live(
                console=self.console,
                get_renderable=self._live_lines,
                transient=True,
                auto_refresh=self._auto_refresh,
            )
            self._live.start(refresh=True)

    def finding(self, finding: Finding) -> None:
        """Show a finding in the form of an error."""
        self._line(with_colors(finding_text(finding)))

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show facts, one on a line."""
        for line in pairs(facts).splitlines():
            self._line(line)

    def step(self, record: Mapping[str, float], total_steps: int) -> None:
        """Show where the training is."""
        if self._stage is None:
            self.stage("training")
        stage = self._stage
        if stage is None:
            return
        stage.training = stage.training or Training(self._clock)
        stage.training.add(record, total_steps)
        step = stage.training.step
        if not self.is_live and (step % self.logging_steps == 0 or step in {1, total_steps}):
            self._line(stage.training.log_line())

    def evaluation(self, name: str, result: Mapping[str, Any]) -> None:
        """Show an evaluation as a line, or the base model against the tuned one as a table.

        A result with both ``base`` and ``tuned`` in it is the run's own; they are empty where
        nothing was held out.
        """
        if "base" in result and "tuned" in result:
            self._line("")
            for line in comparison_table(result, self.console.width).splitlines():
                self._line(line)
            for line in verdict_lines(result):
                self._line(line)
            self._line("")
            return
        numbers = result.get(name, result)
        shown = [
            f"{measure} {value_text(value)}"
            for measure, value in numbers.items()
            if isinstance(value, int | float)
            and (name == "base" or not measure.startswith(("num_", "majority_")))
        ]
        if shown:
            self._line(f"{visible(name)}: {', '.join(shown)}")

    def samples(self, samples: Sequence[Sample]) -> None:
        """Show the answers before and after training; without the latter there is nothing yet."""
        finished = [sample for sample in samples if sample.tuned is not None]
        for number, sample in enumerate(finished, start=1):
            self._line(f"sample {number} of {len(finished)}")
            if self.is_live and self.console.width >= _SIDE_BY_SIDE:
                self.console.print(_side_by_side(sample))
            else:
                self._stacked(sample)
            self._line("")

    def close(self) -> None:
        """Take the live lines down; may be called again."""
        self._end_stage()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _end_stage(self) -> None:
        stage, self._stage = self._stage, None
        if stage is None or not self.is_live:
            return
        words = [stage.title]
        if stage.training is not None:
            training = stage.training
            words.append(f"{training.step}/{training.total_steps} steps")
            words.append(training.live_parts()[0])
        self._line("  ".join([*words, time_text(stage.seconds)]))

    def _line(self, text: str) -> None:
        """Print a line that may have colours; in a log it is never wrapped."""
        self.console.print(Text.from_ansi(text), soft_wrap=not self.is_live)

    def _stacked(self, sample: Sample) -> None:
        """One text above the other; wrapped by cells on a terminal."""
        for name, text in _texts(sample).items():
            label = f"  {name:9}  "
            width = max(self.console.width - len(label), 10)
            lines = text.wrap(self.console, width) if self.is_live else text.split("\n")
            for number, line in enumerate(lines):
                start = label if number == 0 else " " * len(label)
                self.console.print(Text(start) + line, soft_wrap=not self.is_live)

    def _live_lines(self) -> RenderableType:
        return self._stage or Text("")


def _texts(sample: Sample) -> dict[str, Text]:
    """The four texts of a sample by name, safe to print."""
    texts = {
        "prompt": sample.prompt,
        "reference": sample.reference,
        "before": sample.base,
        "after": sample.tuned or "",
    }
    return {
        name: Text(visible(text.replace("\t", "    ").strip(), "\n"), overflow="fold")
        for name, text in texts.items()
    }


def _side_by_side(sample: Sample) -> Table:
    texts = _texts(sample)
    columns = Table.grid(padding=(0, 2, 0, 0), expand=True)
    columns.add_column(ratio=1, overflow="fold")
    columns.add_column(ratio=1, overflow="fold")
    for left, right in (("prompt", "reference"), ("before", "after")):
        columns.add_row(Text(f"  {left}:"), Text(f"{right}:"))
        columns.add_row(Padding(texts[left], (0, 0, 0, 2)), texts[right])
    return columns
