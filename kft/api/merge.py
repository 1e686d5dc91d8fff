"""``kft merge``: base + adapter as one plain checkpoint, proven to say the same."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from kft.api.cards import write_run_card
from kft.api.dataset import verification_examples
from kft.api.opened import run_recipe, trained_part
from kft.api.preflight import head_options, with_labels
from kft.api.records import read_records
from kft.errors import Finding, UsageError
from kft.export.merge import fold_adapter, load_adapter, plain_base, save_merged
from kft.export.places import discard, publish, require_replaceable
from kft.export.rounding import Limits, rounding_limits
from kft.export.verify import Verification, require, save_verification, verify_folder
from kft.models.heads import HeadOptions
from kft.models.licence import licence_findings
from kft.models.loader import clean_generation_config, load_config, load_model
from kft.models.precision import DTYPES
from kft.models.quiet import silence_transformers
from kft.models.tokenizer import load_tokenizer
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import ModelSection, Recipe
from kft.tasks.registry import choose_task
from kft.tasks.task import Batch, Task

NUM_ROWS = 64
"""Held-out rows that a merged model is compared on."""


@dataclass(frozen=True)
class Trained:
    """A run's trained form, as it is compared with what is exported.

    Args:
        reference: Base as trained, quantized if it was, with its adapter.
        adapted: The same in plain float32 layers (dequantized), the adapter not yet merged;
            ``None`` for a run without one.
        tokenizer: With the template used in training.
        batches: Held-out rows.
        task: The run's, with its tokenizer.
        head: What the model's last layer says.
    """

    reference: Any
    adapted: Any
    tokenizer: Any
    batches: list[Batch]
    task: Task
    head: HeadOptions | None = None


def merge(
    run: str,
    *,
    output: str | None = None,
    base: str | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Merge a run's adapter into its base, load the result again and compare it.

    Args:
        run: The run folder.
        output: Where the merged model goes; ``None`` is ``merged/`` in the run folder.
        base: ``dequantized`` (the weights that the adapter was trained against) or
            ``original`` (the checkpoint's own); ``None`` is the recipe's ``export.base``.
        on_finding: Told of a base that may not be used commercially, before the work.

    Returns:
        The merged folder, and the numbers of its ``verification.json``.

    Raises:
        UsageError: If there is no adapter to merge.
        ExportError: If the merged model differs by more than rounding; nothing is left.
    """
    recipe = run_recipe(Path(run))
    if recipe.adapter.method == "full":
        raise UsageError(
            "The run trained every weight: there is no adapter to merge",
            where=run,
            hint=f"`{Path(run) / 'model'}` is its model, already verified.",
        )
    final = (Path(output) if output else Path(run) / "merged").absolute()
    require_replaceable(final)
    if on_finding is not None:
        for finding in licence_findings(recipe.model.name_or_path):
            on_finding(finding)
    trained = load_trained(Path(run), recipe)
    adapter = trained_part(Path(run), "adapter")
    dtype = export_dtype(recipe)
    adapted = trained.adapted
    limits = rounding_limits(adapted, trained.batches, dtype, logit_rows=trained.task.logit_rows)
    if (base or recipe.export.base) == "original":
        original = plain_base(recipe.model, trained.task.auto_class, head=trained.head)
        fit_vocabulary(original, trained.tokenizer)
        adapted = load_adapter(original, adapter)
    merged = fold_adapter(adapted)
    verification = _write_and_verify(
        merged,
        trained,
        final,
        limits,
        (dtype, recipe.export.max_shard_size),
        partial(write_run_card, Path(run), recipe),
    )
    return final, verification.as_dict()


def export_full(
    model: Any, tokenizer: Any, recipe: Recipe, folder: Path, batches: list[Batch]
) -> dict[str, Any]:
    """Write the model of a ``method: full`` run to ``model/`` and prove it the same way.

    Args:
        model: The trained model, float32; not changed.
        tokenizer: Saved with it.
        recipe: The run's recipe.
        folder: The run folder.
        batches: Held-out rows.

    Raises:
        ExportError: If the saved model differs by more than rounding; nothing is left.
    """
    task = choose_task(recipe.task, recipe.model.attention, tokenizer)
    dtype = export_dtype(recipe)
    reference = copy.deepcopy(model).cpu()
    limits = rounding_limits(reference, batches, dtype, logit_rows=task.logit_rows)
    trained = Trained(reference, None, tokenizer, batches, task)
    options = (dtype, recipe.export.max_shard_size)
    card = partial(write_run_card, folder, recipe)
    final = folder / "model"
    return _write_and_verify(reference, trained, final, limits, options, card).as_dict()


def _write_and_verify(
    model: Any,
    trained: Trained,
    final: Path,
    limits: Limits,
    options: tuple[torch.dtype, str],
    card: Callable[[Path, Mapping[str, Any]], None],
) -> Verification:
    dtype, max_shard_size = options
    part = save_merged(model, trained.tokenizer, final, dtype, max_shard_size)
    try:
        verification = verify_folder(
            trained.reference,
            part,
            trained.task.auto_class,
            trained.batches,
            limits,
            trained.task.logit_rows,
        )
        require(verification, final)
        save_verification(verification, part)
        card(part, verification.as_dict())
        publish(part, final)
    finally:
        discard(part)
    return verification


def load_trained(folder: Path, recipe: Recipe) -> Trained:
    """Load a run's trained form from disk, on the CPU, for comparison.

    Raises:
        UsageError: If the run has no adapter.
        ModelError: If base or adapter can't be loaded.
    """
    silence_transformers()
    adapter = trained_part(folder, "adapter")
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(adapter)))
    task = choose_task(recipe.task, recipe.model.attention, tokenizer)
    records = with_labels(read_records(recipe))
    head = head_options(recipe, records, task)
    examples = verification_examples(recipe, records, tokenizer, NUM_ROWS)
    base = _trained_base(folder, recipe, task, tokenizer, head)
    plain = plain_base(recipe.model, task.auto_class, base, head)
    clean_generation_config(plain, tokenizer)
    fit_vocabulary(plain, tokenizer)
    adapted = load_adapter(plain, adapter)
    reference = load_adapter(base, adapter)
    batches = verification_batches(task, examples, tokenizer.pad_token_id)
    return Trained(reference, adapted, tokenizer, batches, task, head)


def verification_batches(task: Task, examples: Sequence[Any], pad_token_id: int) -> list[Batch]:
    """Examples as small padded batches."""
    return [
        task.collate(examples[start : start + 8], pad_token_id)
        for start in range(0, len(examples), 8)
    ]


def export_dtype(recipe: Recipe) -> torch.dtype:
    """The precision of exported weights: the recipe's, or that of the checkpoint's config."""
    if recipe.export.dtype != "auto":
        return DTYPES[recipe.export.dtype]
    own = str(getattr(load_config(recipe.model), "dtype", None)).removeprefix("torch.")
    return DTYPES.get(own, torch.float32)


def has_room(total_parameters: int, folder: Path) -> str | None:
    """Why there is no room to merge a model of this size; ``None`` when there is.

    Merging holds the trained form, the plain base and its moved copy in float32.
    """
    memory, disk = 3 * 4 * total_parameters, 4 * total_parameters
    available = psutil.virtual_memory().available
    if memory > available:
        return (
            f"it takes about {memory / 2**30:.1f} GiB of memory, {available / 2**30:.1f} are free"
        )
    free = shutil.disk_usage(folder).free
    if disk > free:
        return f"it takes about {disk / 2**30:.1f} GiB of disk, {free / 2**30:.1f} are free"
    return None


def _trained_base(
    folder: Path, recipe: Recipe, task: Task, tokenizer: Any, head: HeadOptions
) -> Any:
    # In the precision that it had in training, on whatever machine that was.
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    weights = DTYPES[environment["auto"]["model.dtype"]]
    base = load_model(
        recipe.model,
        auto_class=task.auto_class,
        dtype=weights,
        device=torch.device("cpu"),
        head=head,
    )
    clean_generation_config(base, tokenizer)
    fit_vocabulary(base, tokenizer)
    return base
