"""One run from the recipe to the merged model, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from kft.api.before_after import choose_rows, compared, look_at, samples_of, write_rows
from kft.api.begun import MADE_TOKENIZER, begun
from kft.api.fitting import fit_of
from kft.api.loaded import Loaded, load
from kft.api.memory import memory_facts
from kft.api.merge import NUM_ROWS, export_full, has_room, merge, verification_batches
from kft.api.observer import Observer
from kft.api.paths import absolute
from kft.api.plan import window_plan
from kft.api.report import write_report
from kft.api.resuming import last_checkpoint, require_same_run
from kft.api.run_folder import (
    base_record,
    create,
    environment,
    free_folder,
    full_disk,
    write_json,
    write_traceback,
)
from kft.api.stepping import Steps, Training
from kft.api.stopping import StopSignal
from kft.api.token_report import count_tokens, step_findings
from kft.api.watching import Watch
from kft.errors import DataError, ExportError, Finding, KftError, ModelError, UsageError
from kft.models.adapters import count_parameters
from kft.models.logits import logits_from
from kft.recipe.schema import Recipe
from kft.train.checkpoint import load_checkpoint, save_checkpoint
from kft.train.loop import StepStats
from kft.train.optimizer import make_optimizer
from kft.train.runlog import RunLog, cut_log, peak_memory_bytes, step_record


def run_steps(recipe: Recipe, observer: Observer, *, resume: bool = False) -> Iterator[StepStats]:
    """Fine-tune as the recipe says; yields after each optimizer step.

    When the iterator ends, the run folder holds the adapter, the result and, if asked for,
    the merged and verified model.

    Args:
        recipe: The resolved recipe.
        observer: Told what happens.
        resume: Go on from the run folder's last checkpoint; without one, start afresh.

    Raises:
        KftError: With exit code 2 for what is wrong before training, 1 for what fails later.
        KeyboardInterrupt: After a SIGINT, once a checkpoint was written.
        SystemExit: With 143 after a SIGTERM, likewise.
    """
    folder = Path(recipe.output_dir)
    goes_on = resume and (folder / "environment.json").is_file()
    if not goes_on:
        free_folder(recipe.output_dir, resumed=resume)
    try:
        yield from _run_steps(recipe, folder, observer, goes_on=goes_on)
        (folder / "error.txt").unlink(missing_ok=True)
    except Exception as error:
        if not (isinstance(error, KftError) and error.exit_code == 2):
            write_traceback(folder, error)
        disk = None if isinstance(error, KftError) else full_disk(folder, error)
        if disk is not None:
            raise disk from error
        raise
    finally:
        observer.close()


def _run_steps(
    recipe: Recipe, folder: Path, observer: Observer, *, goes_on: bool
) -> Iterator[StepStats]:
    loaded = load(recipe, observer, begun(folder) if goes_on else None)
    recipe = loaded.recipe
    if goes_on:
        require_same_run(folder, recipe, loaded.records.files_sha256)
    training = prepare_training(loaded)
    few_steps = list(step_findings(training.plan))
    for finding in few_steps:
        observer.finding(finding)
    rows = choose_rows(loaded)
    observer.stage("measuring the base model")
    base = look_at(loaded, training.module, rows)
    observer.evaluation("base", base.result)
    device, files = loaded.accelerator.device, loaded.records.files_sha256
    create(folder, recipe, environment(recipe, device, loaded.choices, files))
    if recipe.model.tokenizer == "train" and not goes_on:
        loaded.tokenizer.save_pretrained(str(folder / MADE_TOKENIZER))
    set_seed(recipe.train.seed)
    watch = Watch(loaded, training.module, rows, folder, observer)
    first_step, steps = 1, Steps(loaded, training, observer)
    checkpoint = last_checkpoint(folder, observer) if goes_on else None
    if checkpoint is not None:
        load_checkpoint(
            checkpoint[0], training.module, training.optimizer, loaded.accelerator.scaler
        )
        watch.go_on_from(checkpoint[0])
        steps.go_on_from(*checkpoint, folder)
        first_step = checkpoint[1] + 1
    cut_log(folder, first_step)
    observer.stage("training" if first_step == 1 else f"training on from step {first_step}")
    watch.begin()
    step = first_step - 1
    for stats in train_and_save(steps, folder, watch, first_step):
        step = stats.step
        yield stats
    result: dict[str, Any] = {"steps": step, "train_seconds": watch.train_seconds}
    observer.stage("saving")
    result["best"] = watch.settle(step)
    save_trained(loaded, folder)
    observer.stage("measuring the tuned model")
    known = watch.last(step) if result["best"].get("step") == step else None
    tuned = look_at(loaded, training.module, rows, known)
    told = [str(finding) for finding in (*loaded.data.findings, *few_steps, *steps.findings)]
    result |= {**compared(rows, base, tuned, seed=recipe.train.seed), "findings": told}
    result |= _facts(loaded)
    result["fit"] = fit_of(loaded, training.module, rows, folder, (base, tuned))
    samples = samples_of(rows, base, tuned)
    result["samples"] = [asdict(sample) for sample in samples]
    write_json(folder / "result.json", result)
    if base.measurement and tuned.measurement:
        write_rows(folder / "held_out.jsonl", rows, base.measurement, tuned.measurement)
    observer.evaluation("tuned", result)
    observer.facts(memory_facts(result))
    observer.samples(samples)
    try:
        result["verification"] = _export(loaded, folder, observer)
    except (DataError, ModelError, UsageError) as cause:  # exit code 2 is for before training
        raise ExportError(cause.what, where=cause.where, expected=cause.expected) from cause
    finally:  # also of a run whose model was refused
        write_json(folder / "result.json", result)
        observer.facts({"report": str(write_report(folder, recipe))})


def prepare_training(loaded: Loaded) -> Training:
    """The model with its loss and the optimizer, prepared by accelerate, and the steps' rows."""
    recipe, model = loaded.recipe, loaded.model
    rows = loaded.memory.rows if loaded.memory else None
    plan = window_plan(recipe, loaded.data.train.examples, packed=loaded.packed, rows=rows)
    way = logits_from(model, fast=recipe.train.fast_paths)
    module = loaded.task.with_loss(model, logits_from=way)
    module, optimizer = loaded.accelerator.prepare(module, make_optimizer(model, recipe.train))
    return Training(module, optimizer, plan)


def train_and_save(
    steps: Steps, folder: Path, watch: Watch, first_step: int
) -> Iterator[StepStats]:
    """Take the steps from ``first_step`` on; log, evaluate, save, and stop when asked to."""
    training, observer, accelerator = steps.training, watch.observer, steps.loaded.accelerator
    recipe, plan = steps.loaded.recipe, training.plan
    if watch.is_over:  # a run that goes on from where it was stopped early
        return
    with RunLog(folder) as log, StopSignal() as stop:
        for stats in steps.take(first_step):
            record = step_record(stats, accelerator)
            log.write(record)
            observer.step(record, plan.total_steps)
            watch.see(stats.step, log, is_last=stats.step == plan.total_steps)
            is_last = stats.step == plan.total_steps or watch.is_over
            stopped = stop.received is not None
            saves = recipe.train.save_steps is not None
            if _is_due(stats.step, recipe.train.save_steps) or (is_last and saves) or stopped:
                save_checkpoint(
                    folder / "checkpoints",
                    stats.step,
                    training.module,
                    training.optimizer,
                    accelerator.scaler,
                    keep=recipe.train.save_total_limit,
                    progress={**watch.progress(), **steps.progress()},
                )
            if stopped:
                observer.finding(
                    Finding(
                        "warning",
                        f"Stopped after step {stats.step} of {plan.total_steps}",
                        where=str(folder / "checkpoints"),
                        hint=f"`kft finetune {folder / 'recipe.yaml'} --resume` goes on.",
                    )
                )
                stop.leave()
            yield stats
            if watch.is_over and stats.step < plan.total_steps:
                observer.finding(watch.stopped_early(stats.step, plan.total_steps))
                return


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def save_trained(loaded: Loaded, folder: Path) -> None:
    """Write ``adapter/``; the weights of ``method: full`` are written by the export."""
    if loaded.recipe.adapter.method == "full":
        return
    target = folder / "adapter"
    for config in loaded.model.peft_config.values():  # to be found from any folder
        config.base_model_name_or_path = absolute(loaded.recipe.model.name_or_path)
    loaded.model.save_pretrained(str(target), safe_serialization=True)
    loaded.tokenizer.save_pretrained(str(target))
    write_json(target / "kft_base.json", base_record(loaded.recipe, loaded.dtype))


def _facts(loaded: Loaded) -> dict[str, Any]:
    """What of ``result.json`` is no measurement."""
    trainable, total = count_parameters(loaded.model)
    examples, dropped = loaded.data.train.examples, loaded.data.train.dropped
    tokens = count_tokens(examples, answers_in_text=loaded.task.answers_in_text)
    return {
        "trainable_parameters": trainable,
        "total_parameters": total,
        "train_rows": len(examples),
        "dropped_rows": {reason: rows.count for reason, rows in dropped.items()},
        "tokens": tokens.summary(),
        "peak_memory_bytes": peak_memory_bytes(loaded.accelerator.device),
        "predicted_memory_bytes": loaded.memory.plan.total if loaded.memory else None,
    }


def _export(loaded: Loaded, folder: Path, observer: Observer) -> dict[str, Any]:
    """Write and prove what the recipe's ``export`` asks for.

    Returns:
        The numbers of ``verification.json``, or why nothing was merged under ``skipped``.
    """
    recipe = loaded.recipe
    if recipe.adapter.method == "full":
        observer.stage("saving and verifying the model")
        examples = (loaded.data.held_out.examples or loaded.data.train.examples)[:NUM_ROWS]
        batches = verification_batches(loaded.task, examples, loaded.tokenizer.pad_token_id)
        return export_full(loaded.model, loaded.tokenizer, recipe, folder, batches)
    if recipe.export.merge is False:
        return {"skipped": "`export.merge` is false"}
    reason = has_room(count_parameters(loaded.model)[1], folder)
    if recipe.export.merge == "auto" and reason is not None:
        observer.finding(
            Finding("warning", f"Not merged: {reason}", hint=f"`kft merge {folder}` does it later.")
        )
        return {"skipped": reason}
    observer.stage("merging and verifying")
    return merge(str(folder))[1]
