"""Taking the steps of a run: what stops them with a reason, and what repeats a window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kft.api.loaded import Loaded
from kft.api.observer import Observer
from kft.data.batches import Share, WindowPlan, make_windows, window_parts
from kft.errors import Finding, TrainError, counted
from kft.models.precision import dtype_name
from kft.tasks.task import Window
from kft.train.checkpoint import checkpoint_progress
from kft.train.divergence import Divergence
from kft.train.gradients import WindowTooLargeError
from kft.train.loop import NotFiniteError, StepStats, train
from kft.train.not_finite import Origin, find_origin
from kft.train.optimizer import learning_rate_schedule
from kft.train.runlog import read_log
from kft.train.weights import compute_with

_PLACES = 5
"""Rows that a message names."""


@dataclass(frozen=True)
class Training:
    """What takes the steps.

    Args:
        module: The prepared module with its loss inside.
        bare: The same without what connects ranks: what is measured and saved.
        optimizer: The prepared optimizer.
        plan: Which rows belong to which step.
    """

    module: Any
    bare: Any
    optimizer: Any
    plan: WindowPlan


class Steps:
    """The optimizer steps of a run.

    Args:
        loaded: The run's model and data.
        training: What takes the steps.
        observer: Told what is noticed.
    """

    def __init__(self, loaded: Loaded, training: Training, observer: Observer) -> None:
        self.loaded, self.training, self.observer = loaded, training, observer
        self.rows = training.plan.rows_per_batch
        self.findings: list[Finding] = []
        self._divergence = Divergence()

    def go_on_from(self, checkpoint: Path, step: int, folder: Path) -> None:
        """Know again what a checkpoint kept, and the losses of the run's log up to its step."""
        self.rows = int(checkpoint_progress(checkpoint).get("micro_batch_rows", self.rows))
        for line in read_log(folder):
            if line.get("loss") is not None and line["step"] <= step:
                self._divergence.see(line["loss"])

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        return {"micro_batch_rows": self.rows}

    def take(self, first_step: int) -> Iterator[StepStats]:
        """Take the steps from ``first_step`` on.

        When a device runs out of memory while a window's gradients are computed, every rank cuts
        the window into micro-batches of half as many rows and computes it again; the step is the
        same sum.

        Raises:
            TrainError: If a loss or gradient isn't finite, or one row is too much for the device.
        """
        step = first_step
        while step <= self.training.plan.total_steps:
            for stats in self._train(step):
                step = stats.step + 1
                self._watch(stats)
                yield stats
            if step <= self.training.plan.total_steps:
                self._cut_smaller(step)

    def _train(self, first_step: int) -> Iterator[StepStats]:
        """The steps until all are taken, or until the device has no memory for one."""
        loaded, training = self.loaded, self.training
        section = loaded.recipe.train
        try:
            yield from train(
                training.module,
                training.optimizer,
                learning_rate_schedule(section, training.plan.total_steps),
                training_windows(loaded, training.plan, first_step, self.rows),
                loaded.accelerator,
                max_grad_norm=section.max_grad_norm,
                first_step=first_step,
            )
        except NotFiniteError as cause:
            with loaded.ranks.told_by_main():
                raise self._not_finite(cause) from cause
        except WindowTooLargeError as cause:
            if self.rows == 1:
                with loaded.ranks.told_by_main():
                    raise self._too_large("a single row", cause) from cause
        except torch.OutOfMemoryError as cause:
            # Weights may have changed, or the other ranks wait for this one's gradients.
            what = "the window's gradients and the optimizer's state"
            raise self._too_large(what, cause) from cause

    def _cut_smaller(self, step: int) -> None:
        # Here the exception is gone, and with it what it held of the window.
        self.training.module.zero_grad(set_to_none=True)
        if self.loaded.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        before, self.rows = self.rows, self.rows // 2
        self._tell(
            Finding(
                "warning",
                f"Out of memory at step {step} with micro-batches of {before} rows: its window is "
                f"computed again with {self.rows}, and so are those after it. The steps are the "
                "same",
                where="`train.per_device_train_batch_size`",
                hint=f"`train.per_device_train_batch_size={self.rows}` with a multiple of "
                "`train.gradient_accumulation_steps` does so from the beginning.",
            )
        )

    def _watch(self, stats: StepStats) -> None:
        watch = self._divergence
        if watch.see(float(stats.loss)):
            self._tell(
                Finding(
                    "warning",
                    f"The training loss diverges: {watch.recent_mean:.3g} nats per target on "
                    f"average of the last steps, {watch.first_mean:.3g} at the beginning",
                    where=f"step {stats.step}, learning rate {stats.learning_rate:.3g}",
                    hint=_smaller(self.loaded.recipe.train.learning_rate),
                )
            )

    def _tell(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.observer.finding(finding)

    def _too_large(self, what: str, cause: Exception) -> TrainError:
        memory = self.loaded.memory
        planned = f"; the plan was {memory.as_text()}" if memory else ""
        return TrainError(
            f"The device has no memory for {what}: {str(cause).strip().partition('.')[0]}",
            where="`train.per_device_train_batch_size`",
            expected=f"room for a micro-batch of {counted(self.rows, 'row')}{planned}",
            hint="`train.gradient_checkpointing=true`, or a smaller `data.max_length`."
            if self.rows == 1
            else f"`train.per_device_train_batch_size={max(1, self.rows // 2)}`",
        )

    def _not_finite(self, cause: NotFiniteError) -> TrainError:
        loaded = self.loaded
        bare, device = self.training.bare, loaded.accelerator.device
        with loaded.accelerator.autocast():  # as it was in the step
            origin = compute_with(bare, lambda: find_origin(bare, cause.window, device))
        if loaded.ranks.sharing:  # each looked at its own part of the weights
            weights = [one for one in loaded.ranks.every(origin.weight) if one is not None]
            origin = replace(origin, weight=next(iter(weights), None))
        examples, plan = loaded.data.train.examples, self.training.plan
        parts = share_of(loaded).of(list(window_parts(examples, plan, cause.step, self.rows)))
        own = [(batch, row) for batch, row in origin.rows if batch < len(parts)]  # no spare ones
        bad = [parts[batch][row].place for batch, row in own]
        places = list(dict.fromkeys(bad or [one.place for part in parts for one in part]))
        more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        return TrainError(
            f"The loss is {cause.loss:g} and the gradient norm {cause.grad_norm:g}",
            where=f"step {cause.step}, learning rate {cause.learning_rate:.3g}, "
            f"{'rows' if bad else 'among the rows'} {', '.join(places[:_PLACES])}{more}",
            expected=f"finite numbers; {_origin_text(origin)}. The step was not taken",
            hint=self._remedy(origin, cause),
        )

    def _remedy(self, origin: Origin, cause: NotFiniteError) -> str:
        if origin.weight is not None:
            return "Copy or download the checkpoint again."
        if cause.step > 1:  # weights have moved
            return _smaller(self.loaded.recipe.train.learning_rate)
        if dtype_name(self.loaded.dtype) != "float32":
            return "`train.precision=float32` shows whether the precision is too small."
        return "`train.fast_paths=false` shows whether a faster way of computing it is at fault."


def _origin_text(origin: Origin) -> str:
    if origin.weight is not None:
        return f"the weight `{origin.weight}` holds others"
    if origin.module is not None:
        return f"the first other output is that of `{origin.module}`"
    return "every module's output is one, and the gradient isn't"


def _smaller(learning_rate: float) -> str:
    return f"`train.learning_rate={learning_rate / 10:.0e}` is ten times smaller."


def training_windows(
    loaded: Loaded, plan: WindowPlan, first_step: int, rows_per_batch: int | None = None
) -> Iterator[Window]:
    """The micro-batches of each step on this rank, as the task lets that step see them."""
    collate = loaded.collate(packed=loaded.unpadded or loaded.packed)
    examples = loaded.data.train.examples
    windows = make_windows(examples, plan, collate, first_step, share_of(loaded), rows_per_batch)
    ranks = loaded.ranks
    for step, window in enumerate(windows, first_step):
        if ranks.number > 1:  # dropout differs on each rank, and is known again by the step
            torch.manual_seed(_step_seed(plan.seed, step, ranks.rank))
        yield loaded.task.window(window, seed=plan.seed, step=step)


def share_of(loaded: Loaded) -> Share:
    """This rank's part of each window."""
    ranks = loaded.ranks
    return Share(ranks.rank, ranks.number, even=bool(ranks.sharing))


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
