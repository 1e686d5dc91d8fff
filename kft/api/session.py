"""One run from the recipe to the merged model, in the order in which things happen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from kft.api.before_after import answer_again, measure_held_out, sample_answers, write_rows
from kft.api.loaded import Loaded, load
from kft.api.merge import NUM_ROWS, export_full, has_room, merge, verification_batches
from kft.api.observer import Observer
from kft.api.run_folder import (
    base_record,
    create,
    environment,
    free_folder,
    write_json,
    write_traceback,
)
from kft.data.batches import WindowPlan, make_windows
from kft.errors import Finding
from kft.evaluation.held_out import Measurement
from kft.evaluation.measures import compare
from kft.models.adapters import count_parameters
from kft.models.loader import keeps_positions
from kft.recipe.schema import Recipe
from kft.train.loop import StepStats, train
from kft.train.optimizer import learning_rate_schedule, make_optimizer
from kft.train.runlog import RunLog, peak_memory_bytes, step_record


def run_steps(recipe: Recipe, observer: Observer) -> Iterator[StepStats]:
    """Fine-tune as the recipe says; yields after each optimizer step.

    When the iterator ends, the run folder holds the adapter, the result and, if asked for,
    the merged and verified model.

    Raises:
        KftError: With exit code 2 for what is wrong before training, 1 for what fails later.
    """
    folder = free_folder(recipe.output_dir)
    try:
        yield from _run_steps(recipe, folder, observer)
    except Exception as error:
        write_traceback(folder, error)
        raise
    finally:
        observer.close()


def _run_steps(recipe: Recipe, folder: Path, observer: Observer) -> Iterator[StepStats]:
    loaded = load(recipe, observer)
    accelerator, task, model = loaded.accelerator, loaded.task, loaded.model
    section, examples = recipe.train, loaded.data.train.examples
    module = task.with_loss(model, keeps_positions=keeps_positions(model))
    plan = WindowPlan(
        num_examples=len(examples),
        rows_per_batch=section.per_device_train_batch_size,
        batches_per_window=section.gradient_accumulation_steps,
        num_train_epochs=section.num_train_epochs,
        max_steps=section.max_steps,
        seed=section.seed,
    )
    module, optimizer = accelerator.prepare(module, make_optimizer(model, section))
    collate = partial(task.collate, pad_token_id=loaded.tokenizer.pad_token_id)
    observer.stage("measuring the base model")
    base = measure_held_out(loaded, module)
    samples = sample_answers(loaded)
    observer.evaluation("base", base.result if base else {})
    create(
        folder,
        recipe,
        environment(recipe, accelerator.device, loaded.choices, loaded.records.files_sha256),
    )
    observer.stage("training")
    set_seed(section.seed)
    started = time.perf_counter()
    with RunLog(folder) as log:
        for stats in train(
            module,
            optimizer,
            learning_rate_schedule(section, plan.total_steps),
            make_windows(examples, plan, collate),
            accelerator,
            max_grad_norm=section.max_grad_norm,
        ):
            record = step_record(stats, accelerator)
            log.write(record)
            observer.step(record, plan.total_steps)
            if recipe.evaluate.eval_steps and stats.step % recipe.evaluate.eval_steps == 0:
                during = measure_held_out(loaded, module)
                log.write({"step": stats.step, **(during.result if during else {})})
                observer.evaluation(f"step {stats.step}", during.result if during else {})
            yield stats
    train_seconds = time.perf_counter() - started
    observer.stage("measuring the tuned model")
    tuned = measure_held_out(loaded, module)
    observer.stage("saving")
    save_trained(loaded, folder)
    finished = answer_again(loaded, samples)
    result = _result(loaded, plan.total_steps, train_seconds, base, tuned)
    result["samples"] = [asdict(sample) for sample in finished]
    write_json(folder / "result.json", result)
    if base and tuned:
        write_rows(folder / "held_out.jsonl", loaded, base, tuned)
    observer.evaluation("tuned", result)
    observer.samples(finished)
    result["verification"] = _export(loaded, folder, observer)
    write_json(folder / "result.json", result)


def save_trained(loaded: Loaded, folder: Path) -> None:
    """Write ``adapter/``; the weights of ``method: full`` are written by the export."""
    if loaded.recipe.adapter.method == "full":
        return
    target = folder / "adapter"
    loaded.model.save_pretrained(str(target), safe_serialization=True)
    loaded.tokenizer.save_pretrained(str(target))
    write_json(target / "kft_base.json", base_record(loaded.recipe, loaded.dtype))


def _result(
    loaded: Loaded,
    steps: int,
    train_seconds: float,
    base: Measurement | None,
    tuned: Measurement | None,
) -> dict[str, Any]:
    trainable, total = count_parameters(loaded.model)
    intervals = compare(base.rows, tuned.rows) if base and tuned else {}
    return {
        "base": base.result if base else {},
        "tuned": tuned.result if tuned else {},
        "intervals": {name: asdict(interval) for name, interval in intervals.items()},
        "steps": steps,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "train_rows": len(loaded.data.train.examples),
        "train_seconds": train_seconds,
        "peak_memory_bytes": peak_memory_bytes(loaded.accelerator.device),
        "findings": [str(finding) for finding in loaded.data.findings],
    }


def _export(loaded: Loaded, folder: Path, observer: Observer) -> dict[str, Any]:
    """Write and prove what the recipe's ``export`` asks for.

    Returns:
        The numbers of ``verification.json``, or why nothing was merged under ``skipped``.
    """
    recipe = loaded.recipe
    if recipe.adapter.method == "full":
        observer.stage("saving and verifying the model")
        examples = list(loaded.data.held_out.examples or loaded.data.train.examples)[:NUM_ROWS]
        batches = verification_batches(recipe, examples, loaded.tokenizer.pad_token_id)
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
