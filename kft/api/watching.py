"""Evaluations while training: logged, the best one's weights kept, and when to stop."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from kft.api.before_after import measure_held_out
from kft.api.loaded import Loaded
from kft.api.measuring import Rows
from kft.api.observer import Observer
from kft.errors import Finding, TrainError
from kft.evaluation.held_out import Measurement
from kft.evaluation.metrics.registry import METRICS
from kft.train.best import Best
from kft.train.checkpoint import (
    best_folder,
    checkpoint_progress,
    drop_other_bests,
    read_weights,
    save_best,
)
from kft.train.runlog import RunLog
from kft.train.weights import set_whole_weights, whole_weights


class Watch:
    """What the evaluations of a run show while it trains.

    Args:
        loaded: The run's model and data.
        module: The prepared module that is trained.
        rows: The held-out rows.
        folder: The run folder.
        observer: Told of each evaluation.
    """

    def __init__(
        self, loaded: Loaded, module: Any, rows: Rows, folder: Path, observer: Observer
    ) -> None:
        section = loaded.recipe.train
        self.loaded, self.module, self.rows, self.observer = loaded, module, rows, observer
        self.folder, self.root = folder, folder / "checkpoints"
        self.metric = section.metric_for_best_model
        self.every = loaded.recipe.evaluate.eval_steps
        better = METRICS[self.metric].higher_is_better
        self.best = Best(higher_is_better=bool(better), patience=section.early_stopping_patience)
        self._last: tuple[int, Measurement] | None = None
        self._seconds_before, self._started = 0.0, time.perf_counter()

    @property
    def train_seconds(self) -> float:
        """Seconds of training so far, those before the run was stopped included."""
        return self._seconds_before + time.perf_counter() - self._started

    def begin(self) -> None:
        """Training begins, or goes on."""
        self._started = time.perf_counter()

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of all this."""
        return {**self.best.state(), "train_seconds": self.train_seconds}

    @property
    def is_over(self) -> bool:
        """Whether training is to stop early."""
        return self.every is not None and self.best.is_over

    def go_on_from(self, checkpoint: Path) -> None:
        """Know again what the evaluations up to a checkpoint had shown."""
        kept = checkpoint_progress(checkpoint)
        self.best.restore(kept)
        self._seconds_before = float(kept.get("train_seconds", 0.0))
        if self.loaded.ranks.is_main:
            drop_other_bests(self.root, self.best.step)

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether it is time to evaluate."""
        return self.every is not None and (is_last or step % self.every == 0)

    def see(self, step: int, log: RunLog | None) -> None:
        """Evaluate, and keep the weights if they are the best so far.

        Args:
            step: The one that was just taken.
            log: The main rank's; ``None`` on others, which write nothing.
        """
        measured = measure_held_out(self.loaded, self.module, self.rows)
        if measured is None:
            return
        if log is not None:
            log.write({"step": step, **measured.result})
        self.observer.evaluation(f"step {step}", measured.result)
        self._last = (step, measured)
        value = measured.result[self.metric]
        if self.loaded.ranks.sharing:  # all gather, or none
            value = self.loaded.ranks.from_main(value)
        if self.best.see(step, value):
            weights = whole_weights(self.loaded.accelerator.unwrap_model(self.module))
            if log is not None:
                save_best(self.root, step, weights)

    def last(self, step: int) -> Measurement | None:
        """What was measured after that step, if it was the last evaluation."""
        return self._last[1] if self._last is not None and self._last[0] == step else None

    def stopped_early(self, step: int, total_steps: int) -> Finding:
        """What to say of stopping."""
        return Finding(
            "note",
            f"Stopped early after step {step} of {total_steps}: `{self.metric}` was best at step "
            f"{self.best.step} and not better in {self.best.since} evaluations since",
        )

    def settle(self, step: int) -> dict[str, Any]:
        """Put the best weights in place, if the recipe wants them.

        Args:
            step: The last one that was taken.

        Returns:
            ``metric``, ``step``, ``value`` and ``is_saved`` (whether the weights that are saved
            are those of that step); empty without evaluations while training.

        Raises:
            TrainError: If the best weights are not there any more.
        """
        section, best = self.loaded.recipe.train, self.best
        if best.step is None:
            return {}
        wanted = section.load_best_model_at_end
        if wanted == "auto":
            wanted = section.early_stopping_patience is not None
        if wanted and best.step != step:
            read = partial(self._read_best, best_folder(self.root, best.step))
            ranks, bare = self.loaded.ranks, self.loaded.accelerator.unwrap_model(self.module)
            weights = ranks.by_main(partial(read, bare)) if ranks.sharing else read(bare)
            set_whole_weights(bare, weights or {})
            self.observer.facts({"best": f"step {best.step}: its weights are the ones saved"})
        return {
            "metric": self.metric,
            "step": best.step,
            "value": best.value,
            "is_saved": bool(wanted) or best.step == step,
        }

    def _read_best(self, folder: Path, module: Any) -> dict[str, Tensor]:
        if not folder.is_dir():
            raise TrainError(
                f"The weights of the best evaluation, step {self.best.step}, are not there",
                where=str(folder),
                hint="`train.load_best_model_at_end=false` saves the last ones.",
            )
        return read_weights(folder, module)
