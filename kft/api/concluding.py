"""The end of a run: what was trained is saved, measured, exported, and proven to say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kft.api.before_after import compared, look_at, samples_of, write_rows
from kft.api.cards import write_run_card
from kft.api.fitting import fit_of, measure_training_rows
from kft.api.loaded import Loaded
from kft.api.measuring import Look, Rows
from kft.api.memory import memory_facts
from kft.api.merge import NUM_ROWS, export_full, has_room, merge, verification_batches
from kft.api.mistakes import mistakes_of
from kft.api.observer import Observer
from kft.api.paths import absolute
from kft.api.preflight import head_options
from kft.api.report import write_report
from kft.api.run_folder import base_record, write_json
from kft.api.stepping import Steps
from kft.api.token_report import count_tokens
from kft.api.watching import Watch
from kft.errors import DataError, ExportError, Finding, ModelError, UsageError
from kft.evaluation.forgetting import forgot_much
from kft.models.adapters import count_parameters
from kft.models.loader import clean_generation_config, load_model
from kft.models.saved_adapter import save_adapter
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import Recipe
from kft.train.runlog import peak_memory_bytes
from kft.train.weights import set_whole_weights, whole_weights


def conclude(
    steps: Steps,
    watch: Watch,
    before: tuple[Rows, Look],
    of_steps: Sequence[Finding],
    step: int,
) -> None:
    """After the last step: save, measure, export.

    Where ranks share the weights all of them have to call this; the others end when the main one
    needs them no more.

    Args:
        steps: The steps that were taken.
        watch: The evaluations in between.
        before: The held-out rows, and the base model on them.
        of_steps: What was told of the steps' number and size.
        step: The last one.

    Raises:
        TrainError: As :meth:`kft.api.watching.Watch.settle`.
        ExportError: If what was exported isn't what was trained.
    """
    loaded, bare = steps.loaded, steps.training.bare
    folder, observer, (rows, base) = watch.folder, watch.observer, before
    result: dict[str, Any] = {"steps": step, "train_seconds": watch.train_seconds}
    observer.stage("saving")
    result["best"] = watch.settle(step)
    shared = whole_weights(bare) if loaded.ranks.sharing else None
    if loaded.ranks.is_main:
        save_trained(loaded, folder, shared if loaded.ranks.sharing.weights else None)
    observer.stage("measuring the tuned model")
    best = result["best"]  # the weights are the last step's, or those of the best evaluation
    are_last = not best.get("is_saved") or best["step"] == step
    known = watch.last(step) if are_last else None
    tuned = look_at(loaded, bare, rows, known)
    seen = measure_training_rows(loaded, bare, rows) if tuned.measurement else None
    if not loaded.ranks.is_main:
        return
    result |= compared(rows, base, tuned, seed=loaded.recipe.train.seed)
    lost = forgot_much(result.get("forgetting", {}))
    for finding in lost:
        observer.finding(finding)
    told = (*loaded.data.findings, *of_steps, *steps.findings, *lost)
    result["findings"] = [str(finding) for finding in told]
    result["fit"] = fit_of(rows, folder, (base, tuned), seen)
    result |= _facts(loaded)
    _tell_leaks(result)
    samples = samples_of(rows, base, tuned)
    result["samples"] = [asdict(sample) for sample in samples]
    if base.measurement and tuned.measurement:
        apart = loaded.data.held_out_records
        result["mistakes"] = mistakes_of(rows, apart, base.measurement, tuned.measurement)
        write_rows(folder / "held_out.jsonl", rows, base.measurement, tuned.measurement)
    write_json(folder / "result.json", result)
    observer.evaluation("tuned", result)
    observer.facts(memory_facts(result))
    observer.samples(samples)
    try:
        result["verification"] = _export(loaded, folder, observer, shared)
    except (DataError, ModelError, UsageError) as cause:  # exit code 2 is for before training
        raise ExportError(cause.what, where=cause.where, expected=cause.expected) from cause
    finally:  # also of a run whose model was refused
        _write_pages(folder, loaded.recipe, result, observer)


def _tell_leaks(result: dict[str, Any]) -> None:
    """Say beside the headline that rows it rests on were trained on."""
    leaked = result["leaked_rows"]
    if leaked and "headline" in result:
        stand = "stands" if leaked == 1 else "stand"
        result["headline"]["sentence"] += f"; {leaked:,} of them {stand} in the training rows too"


def _write_pages(folder: Path, recipe: Recipe, result: dict[str, Any], observer: Observer) -> None:
    """The result, and what is made of it for people: the adapter's card and the report."""
    write_json(folder / "result.json", result)
    if recipe.adapter.method != "full":
        write_run_card(folder, recipe, folder / "adapter")
    observer.facts({"report": str(write_report(folder, recipe))})


def save_trained(
    loaded: Loaded, folder: Path, weights: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write ``adapter/``; the weights of ``method: full`` are written by the export.

    Args:
        loaded: The run's model and data.
        folder: The run folder.
        weights: What was trained, where the model itself has parts of it only.
    """
    if loaded.recipe.adapter.method == "full":
        return
    target = folder / "adapter"
    for config in loaded.model.peft_config.values():  # to be found from any folder
        config.base_model_name_or_path = absolute(loaded.recipe.model.name_or_path)
    save_adapter(loaded.model, target, weights)
    loaded.tokenizer.save_pretrained(str(target))
    head = head_options(loaded.recipe, loaded.records, loaded.task)
    write_json(target / "kft_base.json", base_record(loaded.recipe, loaded.dtype, head))


def _facts(loaded: Loaded) -> dict[str, Any]:
    """What of ``result.json`` is no measurement."""
    trainable, total = count_parameters(loaded.model)
    examples, dropped = loaded.data.train.examples, loaded.data.train.dropped
    tokens = count_tokens(examples, answers_in_text=loaded.task.answers_in_text)
    return {
        "trainable_parameters": trainable,
        "total_parameters": total,
        "train_rows": len(examples),
        "leaked_rows": loaded.data.report.rows["leaked"],
        "dropped_rows": {reason: rows.count for reason, rows in dropped.items()},
        "tokens": tokens.summary(),
        "peak_memory_bytes": peak_memory_bytes(loaded.accelerator.device),
        "predicted_memory_bytes": loaded.memory.plan.total if loaded.memory else None,
    }


def _export(
    loaded: Loaded, folder: Path, observer: Observer, shared: Mapping[str, torch.Tensor] | None
) -> dict[str, Any]:
    """Write and prove what the recipe's ``export`` asks for.

    Args:
        loaded: The run's model and data.
        folder: The run folder.
        observer: Told what is done, and why nothing is.
        shared: What was trained, where the model itself has parts of it only.

    Returns:
        The numbers of ``verification.json``, or why nothing was merged under ``skipped``.
    """
    recipe = loaded.recipe
    if recipe.adapter.method == "full":
        observer.stage("saving and verifying the model")
        examples = (loaded.data.held_out.examples or loaded.data.train.examples)[:NUM_ROWS]
        batches = verification_batches(loaded.task, examples, loaded.tokenizer.pad_token_id)
        model = loaded.model if shared is None else _whole_model(loaded, shared)
        return export_full(model, loaded.tokenizer, recipe, folder, batches)
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


def _whole_model(loaded: Loaded, weights: Mapping[str, torch.Tensor]) -> Any:
    """The trained model of a run whose ranks shared its weights, on the CPU."""
    recipe = loaded.recipe
    model = load_model(
        recipe.model,
        auto_class=loaded.task.auto_class,
        dtype=torch.float32,
        device=torch.device("cpu"),
        head=head_options(recipe, loaded.records, loaded.task),
    )
    fit_vocabulary(model, loaded.tokenizer)
    clean_generation_config(model, loaded.tokenizer)
    model.requires_grad_(True)
    set_whole_weights(model, {name.removeprefix("model."): one for name, one in weights.items()})
    return model
