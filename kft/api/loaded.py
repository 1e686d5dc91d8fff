"""A recipe's data and model, loaded and checked; nothing is written yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import set_seed

from kft.api.dataset import Prepared, Records, prepare, read_records, texts_of
from kft.api.observer import Observer
from kft.api.run_folder import device_name
from kft.errors import UsageError
from kft.models.adapters import add_adapter, count_parameters
from kft.models.loader import clean_generation_config, load_config, load_model, load_tokenizer
from kft.models.new_tokenizer import train_tokenizer
from kft.models.precision import DTYPES, compute_dtype, dtype_name
from kft.models.quiet import without_deprecations
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import Task


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
        with without_deprecations():
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


def _wants_checkpointing(recipe: Recipe, model: torch.nn.Module, device: torch.device) -> bool:
    if recipe.train.gradient_checkpointing == "auto":
        return device.type == "cuda" and count_parameters(model)[1] > 1_000_000_000
    return recipe.train.gradient_checkpointing
