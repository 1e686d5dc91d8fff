"""The steps of a run: prepared, taken, logged, evaluated, saved, and stopped when asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kft.api.loaded import Loaded
from kft.api.plan import window_plan
from kft.api.stopping import StopSignal
from kft.api.watching import Watch
from kft.data.batches import Share, WindowPlan, make_windows
from kft.errors import Finding
from kft.models.blocks import blocks
from kft.models.logits import logits_from
from kft.recipe.reader import flat_values
from kft.recipe.schema import Recipe
from kft.tasks.task import Window
from kft.train.checkpoint import save_checkpoint
from kft.train.layer_norms import LayerNorms
from kft.train.loop import StepStats, train
from kft.train.optimizer import learning_rate_schedule, make_optimizer
from kft.train.runlog import RunLog, step_record
from kft.train.trackers import Trackers


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


def prepare_training(loaded: Loaded) -> Training:
    """The model with its loss and the optimizer, prepared by accelerate, and the steps' rows."""
    recipe, model = loaded.recipe, loaded.model
    rows = loaded.memory.rows if loaded.memory else None
    plan = window_plan(
        recipe, loaded.data.train.examples, packed=loaded.packed, rows=rows, ranks=loaded.begun_with
    )
    way = logits_from(model, fast=recipe.train.fast_paths)
    module = loaded.task.with_loss(model, logits_from=way)
    module, optimizer = loaded.accelerator.prepare(module, make_optimizer(model, recipe.train))
    return Training(module, loaded.accelerator.unwrap_model(module), optimizer, plan)


def idle_ranks(plan: WindowPlan, ranks: int) -> Iterator[Finding]:
    """A warning where steps have fewer micro-batches than there are ranks."""
    idle = ranks - plan.batches_per_window
    if idle > 0:
        yield Finding(
            "warning",
            f"A step has {plan.batches_per_window} micro-batches, as when the run was begun: "
            f"{idle} of {ranks} ranks have none of them",
            hint=f"{plan.batches_per_window} processes take as long.",
        )


def train_and_save(
    loaded: Loaded, training: Training, folder: Path, watch: Watch, first_step: int
) -> Iterator[StepStats]:
    """Take the steps from ``first_step`` on; log, evaluate, save, and stop when asked to."""
    recipe, accelerator, plan = loaded.recipe, loaded.accelerator, training.plan
    ranks, observer = loaded.ranks, watch.observer
    is_over = ranks.from_main(watch.is_over)
    if is_over:  # a run that goes on from where it was stopped early
        return
    norms = layer_norms(loaded, training, first_step)
    with ExitStack() as stack:
        log = stack.enter_context(_log(recipe, folder)) if ranks.is_main else None
        stop = stack.enter_context(StopSignal())
        for stats in train(
            training.module,
            training.optimizer,
            learning_rate_schedule(recipe.train, plan.total_steps),
            training_windows(loaded, plan, first_step),
            accelerator,
            max_grad_norm=recipe.train.max_grad_norm,
            first_step=first_step,
        ):
            with ranks.told_by_main():
                record = step_record(stats, accelerator)
            by_layer = norms.of(stats.step, record["grad_norm"])
            if log is not None:
                log.write({**record, **({"grad_norm_by_layer": by_layer} if by_layer else {})})
            observer.step(record, plan.total_steps)
            is_last = stats.step == plan.total_steps
            if watch.is_due(stats.step, is_last=is_last):
                ranks.by_main(partial(_see, watch, stats.step, log))
                is_over = ranks.from_main(watch.is_over)
            # A signal that comes while the ranks agree is noted, and agreed on after the next step.
            signal = ranks.largest(stop.received or 0)
            due = _is_due(stats.step, recipe.train.save_steps)
            ends = (is_last or is_over) and recipe.train.save_steps is not None
            if due or ends or signal:
                ranks.by_main(partial(_save, loaded, training, watch, stats.step))
            if signal:
                stop.received = signal
                observer.finding(_stopped(folder, stats.step, plan.total_steps))
                stop.leave()
            yield stats
            if is_over and not is_last:
                observer.finding(watch.stopped_early(stats.step, plan.total_steps))
                return


def layer_norms(loaded: Loaded, training: Training, first_step: int) -> LayerNorms:
    """What looks at each block's gradient, at the steps whose lines are shown."""
    layers = {
        name: [one for one in block.parameters() if one.requires_grad]
        for name, block in blocks(loaded.model)
    }
    every = loaded.recipe.train.logging_steps
    return LayerNorms(training.optimizer, layers, every=every, first_step=first_step)


def _log(recipe: Recipe, folder: Path) -> RunLog:
    settings = flat_values(recipe.resolved())
    return RunLog(folder, Trackers(recipe.train.report_to, folder.name, folder, settings))


def _see(watch: Watch, step: int, log: RunLog | None) -> None:
    if log is not None:
        watch.see(step, log)


def _save(loaded: Loaded, training: Training, watch: Watch, step: int) -> None:
    save_checkpoint(
        watch.root,
        step,
        training.bare,
        training.optimizer,
        loaded.accelerator.scaler,
        keep=loaded.recipe.train.save_total_limit,
        progress=watch.progress(),
    )


def _stopped(folder: Path, step: int, total_steps: int) -> Finding:
    return Finding(
        "warning",
        f"Stopped after step {step} of {total_steps}",
        where=str(folder / "checkpoints"),
        hint=f"`kft finetune {folder / 'recipe.yaml'} --resume` goes on.",
    )


def training_windows(loaded: Loaded, plan: WindowPlan, first_step: int) -> Iterator[Window]:
    """The micro-batches of each step on this rank, as the task lets that step see them."""
    collate = loaded.collate(packed=loaded.unpadded or loaded.packed)
    ranks = loaded.ranks
    share = Share(ranks.rank, ranks.number)
    windows = make_windows(loaded.data.train.examples, plan, collate, first_step, share)
    for step, window in enumerate(windows, first_step):
        if ranks.number > 1:  # dropout differs on each rank, and is known again by the step
            torch.manual_seed(_step_seed(plan.seed, step, ranks.rank))
        yield loaded.task.window(window, seed=plan.seed, step=step)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
