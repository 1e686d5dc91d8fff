"""A model to use: a run's trained form, an adapter, a merged folder or any checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kft.errors import ModelError, UsageError
from kft.models.adapters import attach_adapter
from kft.models.checkpoint_files import check_json, is_adapter
from kft.models.loader import clean_generation_config, load_model
from kft.models.precision import compute_dtype, inference_dtype
from kft.models.quiet import silence_transformers
from kft.models.saved_adapter import base_of_adapter
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
    """

    name: str
    model: Any
    tokenizer: Any
    recipe: Recipe | None
    dtype: torch.dtype


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


def open_model(place: str, *, dtype: torch.dtype | None = None) -> Opened:
    """Load what a path or hub name stands for.

    A run is opened as it was trained: the base, quantized if it was, with its adapter.

    Args:
        place: A run folder, an adapter's folder, a checkpoint's folder, or a hub name.
        dtype: Precision of computation; ``None`` is the run's own, or ``auto``.

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
    dtype = dtype or compute_dtype("auto", device)
    if is_adapter(folder):
        return _open_adapter(place, folder, None, dtype, device)
    return _open_plain(place, ModelSection(name_or_path=place), None, dtype, device)


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
    task = TASKS[recipe.task if recipe else "causal_lm"]
    model = load_model(section, auto_class=task.auto_class, dtype=dtype, device=device)
    clean_generation_config(model, tokenizer)
    return Opened(place, model, tokenizer, recipe, dtype)


def _open_adapter(
    place: str, folder: Path, recipe: Recipe | None, dtype: torch.dtype, device: torch.device
) -> Opened:
    section = recipe.model if recipe else _base_section(folder)
    own = ModelSection(name_or_path=str(folder))
    tokenizer = load_tokenizer(own if has_tokenizer(folder) else section)
    task = TASKS[recipe.task if recipe else "causal_lm"]
    weights = dtype if section.dtype == "auto" else inference_dtype(section.dtype, device)
    base = load_model(section, auto_class=task.auto_class, dtype=weights, device=device)
    fit_vocabulary(base, tokenizer)
    clean_generation_config(base, tokenizer)
    model = attach_adapter(base, folder)
    model.eval()
    return Opened(place, model, tokenizer, recipe, dtype)


def _base_section(folder: Path) -> ModelSection:
    """The base of an adapter, from kft's record beside it or from peft's configuration."""
    record = folder / "kft_base.json"
    if not record.is_file():
        return ModelSection(name_or_path=base_of_adapter(folder))
    check_json(folder, [record.name])
    base = json.loads(record.read_text(encoding="utf-8"))
    try:
        return ModelSection(
            name_or_path=base["name_or_path"],
            revision=base["revision"],
            quantization=base["quantization"],
            double_quant=base["double_quant"] is not False,
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise ModelError(
            "The adapter's record of its base can't be read", where=str(record)
        ) from cause
