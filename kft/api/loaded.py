"""A recipe's data and model, loaded and checked; nothing is written yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from kft.api.begun import Begun
from kft.api.connecting import alone
from kft.api.dataset import Prepared
from kft.api.launched import num_local
from kft.api.learner import load_learner
from kft.api.made_tokenizer import made_once
from kft.api.memory import Place, RunPlan, require_memory
from kft.api.observer import Observer
from kft.api.preflight import head_options, load_data, looked_at
from kft.api.ranks import Ranks
from kft.api.records import Records
from kft.api.run_folder import device_name
from kft.api.sharding import byte_sums
from kft.data.table import lengths
from kft.errors import Finding
from kft.models.adapters import count_parameters
from kft.models.checkpoint_files import is_pickled
from kft.models.precision import compute_dtype, dtype_name, weights_dtype
from kft.models.quiet import silence_transformers
from kft.recipe.schema import Recipe
from kft.tasks.inputs import plain_model
from kft.tasks.registry import choose_task
from kft.tasks.task import Batch, Example, Task

_COMPARED = 8
"""Examples of which ranks compare every token."""


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
        ranks: The processes that take its steps, with their one Accelerator.
        dtype: Precision of computation.
        choices: What each ``auto`` became.
        unpadded: The model attends document by document, so its batches need no padding.
        packed: Several examples share a row of ``data.max_length`` tokens.
        memory: The plan of its memory; ``None`` where the model's shapes aren't known.
        begun_with: Processes whose micro-batches make up a step.
    """

    recipe: Recipe
    task: Task
    records: Records
    data: Prepared
    tokenizer: Any
    model: Any
    ranks: Ranks
    dtype: torch.dtype
    choices: dict[str, str]
    unpadded: bool = False
    packed: bool = False
    memory: RunPlan | None = None
    begun_with: int = 1

    @property
    def accelerator(self) -> Accelerator:
        """The run's one Accelerator."""
        return self.ranks.accelerator

    def collate(self, *, packed: bool) -> Callable[[Sequence[Example]], Batch]:
        """What makes one batch of a few examples."""
        return partial(self.task.collate, pad_token_id=self.tokenizer.pad_token_id, packed=packed)


def load(
    recipe: Recipe, observer: Observer, begun: Begun | None = None, ranks: Ranks | None = None
) -> Loaded:
    """Read the data and load the model; raises whatever is wrong before anything is written.

    Args:
        recipe: The resolved recipe.
        observer: Told what is noticed.
        begun: What a run that goes on was begun with; ``None`` is a new one.
        ranks: The processes of the run; ``None``: there is one.
    """
    silence_transformers()
    task = choose_task(recipe.task, recipe.model.attention)
    ranks = ranks or alone(recipe)
    device = ranks.accelerator.device
    dtype = compute_dtype(recipe.train.precision, device)
    weights = weights_dtype(recipe.model.dtype, dtype, device)
    observer.stage("reading data")
    begun = begun or Begun()
    begun_with = begun.ranks or ranks.number
    with made_once(recipe, task, ranks, begun.tokenizer, begun_with) as made:
        read = partial(load_data, recipe, task, made, begun_with)
        config, records, tokenizer, data = ranks.in_turn(read)
    ranks.require_equal("rows", lambda: _fingerprint(records, data))
    task = task.for_tokenizer(tokenizer)
    if records.labels:  # found in the rows, and from here on as if they had been written
        section = recipe.data.model_copy(update={"labels": records.labels})
        recipe = recipe.model_copy(update={"data": section})
    if (
        task.answers_in_text and records.layout.format != "text"
    ):  # running text has no turns to render
        tokenizer.chat_template = data.renderer.chat_template
    data = looked_at(data, tokenizer, task)
    for finding in data.findings:
        observer.finding(finding)
    if is_pickled(Path(recipe.model.name_or_path)):
        what = "The weights are a pickle; they are read as tensors alone, and nothing in it is run"
        observer.finding(Finding("note", what, where=recipe.model.name_or_path))
    place = Place(begun.rows, begun_with, num_local(), ranks.sharing, ranks.number)
    memory = require_memory(recipe, config, task, data, device, observer, place)
    if memory is not None:  # `auto` is the same on all, whatever memory each has free
        memory = replace(memory, rows=min(ranks.every(memory.rows)))
    observer.stage("loading the model")
    set_seed(recipe.train.seed)
    if recipe.adapter.method == "full":
        weights = torch.float32
    head = head_options(recipe, records, task)
    learner = load_learner(recipe, task, tokenizer, head, weights, ranks, observer)
    model = learner.model
    if ranks.sharing:  # each takes its part of its own, where DDP sends the first one's
        ranks.require_equal("weights", lambda: byte_sums(model))
    choices = {
        "train.precision": dtype_name(dtype),
        "model.dtype": dtype_name(weights),
        "data.format": records.layout.note,
        "data.template": data.template_note,
        "data.packing": "true" if learner.packed else "false",
        "model.attn_implementation": plain_model(model).config._attn_implementation,
        "train.gradient_checkpointing": "true" if learner.recomputes else "false",
    }
    if recipe.train.per_device_train_batch_size == "auto":
        choices["train.per_device_train_batch_size"] = str(memory.rows if memory else 1)
    loaded = Loaded(
        recipe, task, records, data, tokenizer, model, ranks, dtype, choices,
        unpadded=learner.unpadded, packed=learner.packed, memory=memory, begun_with=begun_with,
    )  # fmt: skip
    observer.facts(_facts(loaded))
    return loaded


def _facts(loaded: Loaded) -> dict[str, str]:
    """What is told before training, one line each."""
    recipe, data, ranks = loaded.recipe, loaded.data, loaded.ranks
    trainable, total = count_parameters(loaded.model)
    device = f"{device_name(ranks.accelerator.device)}, {dtype_name(loaded.dtype)}"
    shared = f", {ranks.sharing.name}" if ranks.sharing else ""
    return {
        "model": f"{recipe.model.name_or_path} ({total:,} parameters, {trainable:,} trained)",
        "device": device if ranks.number == 1 else f"{ranks.number} x {device}{shared}",
        "rows": f"{len(data.train.examples):,} to train on, "
        f"{len(data.held_out.examples):,} held out",
        "format": loaded.records.layout.note,
        "template": data.template_note,
        **({"memory": loaded.memory.as_text()} if loaded.memory else {}),
    }


def _fingerprint(records: Records, data: Prepared) -> Any:
    """Equal for equal rows: the files' hashes, how many examples, their length, the first ones."""
    train, held_out = data.train.examples, data.held_out.examples
    first = [one.input_ids for one in train[:_COMPARED]]
    hashes = sorted(records.files_sha256.values())
    return hashes, len(train), len(held_out), int(lengths(train).sum()), first
