"""One run from the recipe to the merged model, in the order in which things happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import set_seed

from kft.api.dataset import Prepared, Records, prepare, prompt_text, read_records, texts_of
from kft.api.observer import Observer, Sample
from kft.api.run_folder import (
    base_record,
    create,
    device_name,
    environment,
    free_folder,
    write_json,
    write_traceback,
)
from kft.data.batches import WindowPlan, make_windows
from kft.errors import UsageError
from kft.evaluation.held_out import Measurement, measure
from kft.evaluation.measures import compare
from kft.models.adapters import add_adapter, count_parameters
from kft.models.generation import generate
from kft.models.loader import (
    clean_generation_config,
    keeps_positions,
    load_config,
    load_model,
    load_tokenizer,
)
from kft.models.new_tokenizer import train_tokenizer
from kft.models.precision import DTYPES, compute_dtype, dtype_name
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import Task
from kft.train.loop import StepStats, train
from kft.train.optimizer import learning_rate_schedule, make_optimizer
from kft.train.runlog import RunLog, peak_memory_bytes, step_record


@dataclass(frozen=True)
class Loaded:
    """A recipe's data and model, ready to train; nothing was written yet.

    Args:
        recipe: The resolved recipe.
        task: Its task.
        records: The rows as read.
        data: The rows as examples.
        tokenizer: With the template it is saved with.
        model: The transformers or PEFT model.
        accelerator: The run's one Accelerator.
        dtype: Precision of computation.
        choices: What each ``auto`` became.
    """

    recipe: Recipe
    task: Task
    records: Records
    data: Prepared
    tokenizer: Any
    model: Any
    accelerator: Accelerator
    dtype: torch.dtype
    choices: dict[str, str]


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
    module, optimizer = accelerator.prepare(module, make_optimizer(module, section))
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
    result = _result(loaded, plan.total_steps, train_seconds, base, tuned)
    finished = answer_again(loaded, samples)
    result["samples"] = [asdict(sample) for sample in finished]
    write_json(folder / "result.json", result)
    observer.evaluation("tuned", result)
    observer.samples(finished)
    _export(loaded, folder, result, observer)


def load(recipe: Recipe, observer: Observer) -> Loaded:
    """Read the data and load the model; raises whatever is wrong before anything is written."""
    # transformers' own progress bars and advice would write over the display.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    task = TASKS[recipe.task]
    accelerator = make_accelerator(recipe)
    device = accelerator.device
    dtype = compute_dtype(recipe.train.precision, device)
    observer.stage("reading data")
    records = read_records(recipe)
    config = load_config(recipe.model)
    if recipe.model.tokenizer == "train":
        tokenizer = train_tokenizer(texts_of(records.train), config)
    else:
        tokenizer = load_tokenizer(recipe.model)
    data = prepare(recipe, records, tokenizer, task)
    if records.layout.format != "text":  # running text has no turns to render
        tokenizer.chat_template = data.renderer.chat_template
    for finding in data.findings:
        observer.finding(finding)
    observer.stage("loading the model")
    set_seed(recipe.train.seed)
    weights = dtype if recipe.model.dtype == "auto" else DTYPES[recipe.model.dtype]
    if recipe.adapter.method == "full":
        weights = torch.float32
    model = load_model(recipe.model, auto_class=task.auto_class, dtype=weights, device=device)
    new_token_ids = fit_vocabulary(model, tokenizer)
    clean_generation_config(model, tokenizer)
    model = add_adapter(model, recipe.adapter, recipe.task, new_token_ids)
    checkpointing = _wants_checkpointing(recipe, model, device)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    choices = {
        "train.precision": dtype_name(dtype),
        "model.dtype": dtype_name(weights),
        "data.format": records.layout.note,
        "data.template": data.template_note,
        "train.gradient_checkpointing": "true" if checkpointing else "false",
    }
    trainable, total = count_parameters(model)
    observer.facts(
        {
            "model": f"{recipe.model.name_or_path} ({total:,} parameters, {trainable:,} trained)",
            "device": f"{device_name(device)}, {dtype_name(dtype)}",
            "rows": f"{len(data.train.examples):,} to train on, "
            f"{len(data.held_out.examples):,} held out",
            "format": records.layout.note,
            "template": data.template_note,
        }
    )
    return Loaded(recipe, task, records, data, tokenizer, model, accelerator, dtype, choices)


def make_accelerator(recipe: Recipe) -> Accelerator:
    """The run's one Accelerator: one process until several are asked for.

    Raises:
        UsageError: If several processes were launched, which kft does not run yet.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = compute_dtype(recipe.train.precision, device)
    mixed = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    accelerator = Accelerator(mixed_precision=mixed, cpu=device.type == "cpu")
    if accelerator.num_processes > 1:
        raise UsageError(
            f"kft was launched as {accelerator.num_processes} processes",
            expected="one process",
            hint="Start it with `kft finetune`, without a launcher.",
        )
    return accelerator


def measure_held_out(loaded: Loaded, module: Any) -> Measurement | None:
    """The model on the held-out rows; ``None`` when there are none."""
    if not loaded.data.held_out.examples:
        return None
    unwrapped = loaded.accelerator.unwrap_model(module)
    with loaded.accelerator.autocast():
        return measure(
            unwrapped,
            loaded.data.held_out,
            partial(loaded.task.collate, pad_token_id=loaded.tokenizer.pad_token_id),
            rows_per_batch=loaded.recipe.evaluate.per_device_eval_batch_size,
            device=loaded.accelerator.device,
        )


def sample_answers(loaded: Loaded) -> list[Sample]:
    """The base model's answers to the first held-out prompts."""
    records = loaded.data.held_out_records[: loaded.recipe.evaluate.generate]
    asked = [prompt_text(record, loaded.data.renderer) for record in records]
    answers = _answers(loaded, [prompt for prompt, _, _ in asked])
    return [
        Sample(prompt=shown, reference=reference, base=answer)
        for (_, shown, reference), answer in zip(asked, answers, strict=True)
    ]


def answer_again(loaded: Loaded, samples: Sequence[Sample]) -> list[Sample]:
    """The same samples with the tuned model's answers beside the base model's."""
    records = loaded.data.held_out_records[: len(samples)]
    prompts = [prompt_text(record, loaded.data.renderer)[0] for record in records]
    answers = _answers(loaded, prompts)
    return [replace(sample, tuned=text) for sample, text in zip(samples, answers, strict=True)]


def _answers(loaded: Loaded, prompts: Sequence[str]) -> list[str]:
    with loaded.accelerator.autocast():
        return generate(
            loaded.model,
            loaded.tokenizer,
            prompts,
            max_new_tokens=loaded.recipe.evaluate.max_new_tokens,
            adds_special_tokens=loaded.records.layout.format == "text",
        )


def save_trained(loaded: Loaded, folder: Path) -> None:
    """Write ``adapter/``; the weights of ``method: full`` are written by the export."""
    if loaded.recipe.adapter.method == "full":
        return
    target = folder / "adapter"
    loaded.model.save_pretrained(str(target), safe_serialization=True)
    loaded.tokenizer.save_pretrained(str(target))
    write_json(target / "kft_base.json", base_record(loaded.recipe, loaded.dtype))


def _wants_checkpointing(recipe: Recipe, model: torch.nn.Module, device: torch.device) -> bool:
    if recipe.train.gradient_checkpointing == "auto":
        return device.type == "cuda" and count_parameters(model)[1] > 1_000_000_000
    return recipe.train.gradient_checkpointing


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


def _export(loaded: Loaded, folder: Path, result: dict[str, Any], observer: Observer) -> None:
    from kft.api.merge import export_run  # it imports this module's Loaded

    export_run(loaded, folder, result, observer)
