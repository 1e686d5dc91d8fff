"""A model to use: a run's trained form, an adapter, a merged folder or any checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kft.errors import Finding, ModelError, UsageError
from kft.models.adapters import attach_adapter
from kft.models.checkpoint_files import check_json, is_adapter
from kft.models.decoders import as_decoder, is_encoder
from kft.models.heads import HeadOptions, untrained_finding
from kft.models.loader import (
    clean_generation_config,
    load_config,
    load_model,
    load_model_with_head,
)
from kft.models.precision import inference_dtype
from kft.models.quiet import silence_transformers
from kft.models.saved_adapter import base_of_adapter, check_base
from kft.models.tokenizer import has_tokenizer, load_tokenizer
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.reader import read_recipe
from kft.recipe.schema import ModelSection, Recipe
from kft.tasks.registry import TASKS


@dataclass(frozen=True)
class Opened:
    """A loaded model.

    Args:
        name: What the user called it.
        model: A transformers model, or a PEFT model around one, in eval mode.
        tokenizer: With the chat template it was trained with.
        recipe: The recipe of its run; ``None`` when it does not come from one.
        dtype: Precision of computation.
        task: What the model was trained for.
        findings: What to tell of its weights.
    """

    name: str
    model: Any
    tokenizer: Any
    recipe: Recipe | None
    dtype: torch.dtype
    task: str = "causal_lm"
    findings: tuple[Finding, ...] = ()


def is_run(folder: Path) -> bool:
    """Whether the folder is a run folder."""
    return (folder / "recipe.yaml").is_file()


def run_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run folder.

    Raises:
        UsageError: If it is not one.
    """
    if not is_run(folder):
        raise UsageError(
            f"`{folder}` is not a run folder",
            where=str(folder),
            expected="a folder with `recipe.yaml`, made by `kft finetune`",
        )
    return read_recipe(folder / "recipe.yaml")


def open_model(
    place: str, *, dtype: torch.dtype | None = None, like: Recipe | None = None
) -> Opened:
    """Load what a path or hub name stands for.

    A run is opened as it was trained: the base, quantized if it was, with its adapter.

    Args:
        place: A run folder, an adapter's folder, a checkpoint's folder, or a hub name.
        dtype: Precision of computation; ``None`` is the run's own, else that of ``like``.
        like: A model that comes from no run is opened for this recipe's task, and computes in its
            precision; ``None`` is the task that its own files tell, and ``auto``.

    Raises:
        UsageError: If there is nothing.
        ModelError: If it can't be loaded.
    """
    silence_transformers()
    folder = Path(place)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if is_run(folder):
        recipe = run_recipe(folder)
        dtype = dtype or inference_dtype(recipe.train.precision, device)
        if recipe.adapter.method == "full":
            section = ModelSection(name_or_path=str(trained_part(folder, "model")))
            return _open_plain(place, section, recipe, dtype, device)
        return _open_adapter(place, trained_part(folder, "adapter"), recipe, dtype, device)
    dtype = dtype or inference_dtype(like.train.precision if like else "auto", device)
    if is_adapter(folder):
        return _open_adapter(place, folder, None, dtype, device)
    attention = like.model.attention if like else "causal"
    section = ModelSection(name_or_path=place, attention=attention)
    opened = _open_plain(place, section, like, dtype, device)
    return replace(opened, recipe=None)


def trained_part(folder: Path, name: str) -> Path:
    """A run's ``adapter`` or ``model`` folder.

    Raises:
        UsageError: If the run did not get that far.
    """
    if not (folder / name).is_dir():
        raise UsageError(
            f"The run has no `{name}/`: it did not finish",
            where=str(folder),
            expected=f"`{folder / name}`",
        )
    return folder / name


def _open_plain(
    place: str,
    section: ModelSection,
    recipe: Recipe | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Opened:
    tokenizer = load_tokenizer(section)
    task = TASKS[recipe.task if recipe else task_of(section)]
    head = head_of(recipe) if recipe else HeadOptions()
    model, new, _ = load_model_with_head(
        section, auto_class=task.auto_class, dtype=dtype, device=device, head=head
    )
    if task.answers_in_text and is_encoder(model.config):
        as_decoder(tokenizer)
    clean_generation_config(model, tokenizer)
    untrained = untrained_finding(place, model, new, head)
    findings = (untrained,) if untrained else ()
    return Opened(place, model, tokenizer, recipe, dtype, task.name, findings)


def head_of(recipe: Recipe) -> HeadOptions:
    """What a run's task wants of the last layer; its labels stand in the resolved recipe.

    Whether rows may have several labels doesn't: that is left to the record beside the weights.
    """
    kind, labels = TASKS[recipe.task].head, tuple(recipe.data.labels)
    return HeadOptions(kind, labels if kind == "classes" else (), None, recipe.train.seed)


def task_of(section: ModelSection) -> str:
    """The task that a checkpoint was trained for, as its configuration names its class."""
    config = load_config(section)
    classes = " ".join(config.architectures or [])
    if "ForSequenceClassification" in classes:
        is_number = config.problem_type == "regression"
        return "sequence_regression" if is_number else "sequence_classification"
    if "ForTokenClassification" in classes:
        return "token_classification"
    return "masked_lm" if "ForMaskedLM" in classes else "causal_lm"


def _open_adapter(
    place: str, folder: Path, recipe: Recipe | None, dtype: torch.dtype, device: torch.device
) -> Opened:
    section = recipe.model if recipe else _base_section(folder)
    if recipe is None:
        check_base(folder, section.name_or_path, where=str(folder / "kft_base.json"))
    own = ModelSection(name_or_path=str(folder))
    tokenizer = load_tokenizer(own if has_tokenizer(folder) else section)
    record = _base_record(folder)
    task = TASKS[recipe.task if recipe else record.get("task", "causal_lm")]
    head = HeadOptions(task.head, tuple(record.get("labels", ())))
    head = head_of(recipe) if recipe else head
    head = replace(head, several=record.get("several"), reads=record.get("reads"))
    weights = dtype if section.dtype == "auto" else inference_dtype(section.dtype, device)
    base = load_model(section, auto_class=task.auto_class, dtype=weights, device=device, head=head)
    fit_vocabulary(base, tokenizer)
    clean_generation_config(base, tokenizer)
    model = attach_adapter(base, folder)
    model.eval()
    return Opened(place, model, tokenizer, recipe, dtype, task.name)


def _base_section(folder: Path) -> ModelSection:
    """The base of an adapter, from kft's record beside it or from peft's configuration."""
    base = _base_record(folder)
    if not base:
        return ModelSection(name_or_path=base_of_adapter(folder))
    try:
        return ModelSection(
            name_or_path=base["name_or_path"],
            revision=base["revision"],
            quantization=base["quantization"],
            double_quant=base["double_quant"] is not False,
            attention=base.get("attention", "causal"),
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise ModelError(
            "The adapter's record of its base can't be read",
            where=str(folder / "kft_base.json"),
        ) from cause


def _base_record(folder: Path) -> dict[str, Any]:
    """What kft wrote beside an adapter about its base; empty where it did not."""
    record = folder / "kft_base.json"
    if not record.is_file():
        return {}
    check_json(folder, [record.name])
    content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return content
