"""Going on with a run: the same recipe and rows, from its last complete checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kft.api.observer import Observer
from kft.api.paths import with_absolute_paths
from kft.errors import Finding, RecipeError
from kft.models.loader import weights_sha256
from kft.recipe.reader import flat_values, read_recipe
from kft.recipe.schema import Recipe
from kft.train.checkpoint import complete_checkpoints

_MAY_DIFFER = (
    "output_dir",
    "evaluate.",
    "export.",
    "train.early_stopping_patience",
    "train.load_best_model_at_end",
    "train.logging_steps",
    "train.max_steps",
    "train.num_train_epochs",
    "train.save_steps",
    "train.save_total_limit",
)


def require_same_run(folder: Path, recipe: Recipe, files_sha256: Mapping[str, str]) -> None:
    """Refuse to go on with another recipe or other rows.

    Args:
        folder: The run folder.
        recipe: What is asked for now. It may train longer, and log, save, evaluate and export
            in another way.
        files_sha256: Path -> hash of each data file now.

    Raises:
        RecipeError: If something differs that the steps so far depended on.
    """
    before = flat_values(read_recipe(folder / "recipe.yaml").resolved())
    now = flat_values(with_absolute_paths(recipe).resolved())
    # How many rows are streamed depends on the steps, and the order on how many there are.
    fixed = {"train.max_steps"} if recipe.data.streaming else set()
    for key, value in now.items():
        may_differ = key.startswith(_MAY_DIFFER) and key not in fixed
        if before.get(key) != value and not may_differ:
            raise RecipeError(
                f"The run was started with another `{key}`, got `{_shown(value)}`",
                where=str(folder / "recipe.yaml"),
                expected=f"`{_shown(before.get(key))}`, as the steps so far had it",
                hint="Leave `--resume` out and name another `output_dir` for a new run.",
            )
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    if environment["base_sha256"] != weights_sha256(recipe.model.name_or_path):
        raise RecipeError(
            "The base's weights have changed since the run was started",
            where=recipe.model.name_or_path,
            expected=f"weights with sha256 {environment['base_sha256']}",
        )
    saved = environment["data_sha256"]
    for path, sha in files_sha256.items():
        if saved.get(path) != sha:
            raise RecipeError(
                "The data has changed since the run was started",
                where=path,
                expected=f"a file with sha256 {saved.get(path, 'of another name')}; it has {sha}",
            )


def last_checkpoint(folder: Path, observer: Observer) -> tuple[Path, int] | None:
    """The newest complete checkpoint of a run and its step; damaged ones are told."""
    for found in complete_checkpoints(folder / "checkpoints"):
        if isinstance(found, Finding):
            observer.finding(found)
        else:
            return found
    return None


def training_stage(first_step: int, total_steps: int, *, is_over: bool = False) -> str:
    """What to say as training begins, goes on, or has nothing left to do.

    Args:
        first_step: The next one to take.
        total_steps: Of the whole run.
        is_over: It was stopped early, by its evaluations.

    Example:
        >>> training_stage(5, 6)
        'training on from step 5'
        >>> training_stage(7, 6)
        'all 6 steps were taken before: saving, measuring and exporting again'
    """
    taken = first_step - 1
    if taken >= total_steps:
        all_of_them = "the one step was" if taken == 1 else f"all {taken:,} steps were"
        return f"{all_of_them} taken before: saving, measuring and exporting again"
    if is_over:
        early = f"stopped early after step {taken:,} before"
        return f"{early}: saving, measuring and exporting again"
    return "training" if first_step == 1 else f"training on from step {first_step:,}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
