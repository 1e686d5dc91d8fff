"""The steps of a run: prepared, taken, logged, evaluated, saved, and stopped when asked to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from kft.api.loaded import Loaded
from kft.api.plan import window_plan
from kft.api.sharding import prepare_sharded
from kft.api.stepping import Steps, Training
from kft.api.stopping import StopSignal
from kft.api.watching import Watch
from kft.api.zero import prepare_zero
from kft.data.batches import WindowPlan
from kft.errors import Finding
from kft.models.blocks import blocks
from kft.models.logits import logits_from
from kft.recipe.reader import flat_values
from kft.recipe.schema import Recipe
from kft.train.allocator import keep_freed_memory
from kft.train.checkpoint import save_checkpoint, state_of
from kft.train.layer_norms import LayerNorms
from kft.train.loop import StepStats
from kft.train.optimizer import make_optimizer
from kft.train.runlog import RunLog, checkpoint_record, step_record
from kft.train.trackers import Trackers


def prepare_training(loaded: Loaded) -> Training:
    """The model with its loss and the optimizer, prepared by accelerate, and the steps' rows."""
    recipe, model = loaded.recipe, loaded.model
    # Where arrays of all sizes come and go, as ZeRO gathers them, what is kept fits none.
    if loaded.accelerator.device.type == "cpu" and not loaded.ranks.sharing.is_zero:
        keep_freed_memory()
    rows = loaded.memory.rows if loaded.memory else None
    plan = window_plan(
        recipe, loaded.data.train.examples, packed=loaded.packed, rows=rows, ranks=loaded.begun_with
    )
    way = logits_from(model, fast=recipe.train.fast_paths)
    module = loaded.task.with_loss(model, logits_from=way)
    accelerator, optimizer = loaded.accelerator, make_optimizer(model, recipe.train)
    sharing = loaded.ranks.sharing
    if sharing.is_zero:
        engine, optimizer = prepare_zero(accelerator, module, optimizer, loaded.dtype)
        return Training(engine, module, optimizer, plan)
    prepare = partial(prepare_sharded, accelerator) if sharing else accelerator.prepare
    module, optimizer = prepare(module, optimizer)
    return Training(module, accelerator.unwrap_model(module), optimizer, plan)


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
    steps: Steps, folder: Path, watch: Watch, first_step: int
) -> Iterator[StepStats]:
    """Take the steps from ``first_step`` on; log, evaluate, save, and stop when asked to."""
    loaded, training = steps.loaded, steps.training
    recipe, plan = loaded.recipe, training.plan
    ranks, observer = loaded.ranks, watch.observer
    is_over = ranks.from_main(watch.is_over)
    if is_over:  # a run that goes on from where it was stopped early
        return
    norms = layer_norms(loaded, training, first_step)
    with ExitStack() as stack:
        log = stack.enter_context(_log(recipe, folder)) if ranks.is_main else None
        stop = stack.enter_context(StopSignal())
        for stats in steps.take(first_step):
            record = step_record(stats, loaded.accelerator)
            by_layer = norms.of(stats.step, record["grad_norm"])
            if log is not None:
                log.write({**record, **({"grad_norm_by_layer": by_layer} if by_layer else {})})
            observer.step(record, plan.total_steps)
            is_last = stats.step == plan.total_steps
            if watch.is_due(stats.step, is_last=is_last):
                ranks.with_model(partial(watch.see, stats.step, log))
                is_over = ranks.from_main(watch.is_over)
            # A signal that comes while the ranks agree is noted, and agreed on after the next step.
            signal = ranks.largest(stop.received or 0)
            due = _is_due(stats.step, recipe.train.save_steps)
            ends = (is_last or is_over) and recipe.train.save_steps is not None
            if due or ends or signal:
                save(steps, watch, stats.step, log)
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
        if not loaded.ranks.sharing.is_zero  # whose optimizer sees no layers
    }
    every = loaded.recipe.train.logging_steps
    return LayerNorms(training.optimizer, layers, every=every, first_step=first_step)


def _log(recipe: Recipe, folder: Path) -> RunLog:
    settings = flat_values(recipe.resolved())
    return RunLog(folder, Trackers(recipe.train.report_to, folder.name, folder, settings))


def save(steps: Steps, watch: Watch, step: int, log: RunLog | None) -> None:
    """Write a checkpoint; no rank goes on, or leaves, before it is there.

    Args:
        steps: Whose state is kept.
        watch: Likewise, and where the checkpoints are.
        step: The one that was just taken.
        log: The main rank's; ``None`` on others.

    Raises:
        TrainError: If it can't be written.
    """
    loaded, training, began = steps.loaded, steps.training, time.perf_counter()
    state = partial(state_of, training.bare, training.optimizer, loaded.accelerator.scaler)
    gathered = state() if loaded.ranks.sharing else None

    def write() -> None:
        folder = save_checkpoint(
            watch.root,
            step,
            gathered or state(),
            keep=loaded.recipe.train.save_total_limit,
            progress={**watch.progress(), **steps.progress()},
        )
        if log is not None:
            log.write(checkpoint_record(step, time.perf_counter() - began, folder))

    loaded.ranks.by_main(write)


def _stopped(folder: Path, step: int, total_steps: int) -> Finding:
    return Finding(
        "warning",
        f"Stopped after step {step} of {total_steps}",
        where=str(folder / "checkpoints"),
        hint=f"`kft finetune {folder / 'recipe.yaml'} --resume` goes on.",
    )


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
