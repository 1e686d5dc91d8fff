"""Every shipped recipe, read, checked and run for a few steps.

The hub and the public files are replaced: the checkpoint by one of the true architecture with
random weights and one block, the rows by a few of the same layout. All else is the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kft
from kft.recipe.reader import read_recipe
from kft.recipe.schema import Recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
STEPS = 2
Make = Callable[[str], Path]


def replaced(
    recipe: Recipe, checkpoint_like: Make, rows_for: Callable[..., Path]
) -> dict[str, Any]:
    """Overrides for what isn't on this machine; what is in the repository stays."""
    overrides: dict[str, Any] = {}
    if not (ROOT / recipe.model.name_or_path).is_dir():
        overrides["model.name_or_path"] = str(checkpoint_like(recipe.model.name_or_path))
    for key, source in (("data.train", recipe.data.train), ("data.eval", recipe.data.eval)):
        named = getattr(source, "path", source)
        if named is not None and not (ROOT / named).is_file():
            file = rows_for(named, many_words=recipe.model.tokenizer == "train")
            overrides[key] = str(file if file.suffix else file.rename(f"{file}.jsonl"))
    return overrides


def test_there_are_twelve() -> None:
    assert len(RECIPES) == 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*aged optimizers.*:UserWarning")  # there is no GPU to page to
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_checked_and_runs(
    path: Path,
    checkpoint_like: Make,
    rows_for: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = read_recipe(path, {})
    overrides = {
        **replaced(recipe, checkpoint_like, rows_for),
        "output_dir": str(tmp_path / "run"),
        "train.max_steps": STEPS,
        "train.per_device_train_batch_size": 2,
        "train.gradient_accumulation_steps": min(2, recipe.train.gradient_accumulation_steps),
        "train.precision": "float32",
        "evaluate.max_rows": 4,
        "evaluate.eval_steps": STEPS,
        "evaluate.generate": min(1, recipe.evaluate.generate),
        "evaluate.max_new_tokens": 4,
    }
    if recipe.data.eval is None:
        overrides["data.eval_fraction"] = 0.25
    check = kft.check(path, overrides, show_rows=1)
    assert not check.has_errors, check.findings
    run = kft.finetune(path, overrides)
    assert run.result["steps"] == STEPS
    assert run.result["base"]["num_rows"] == run.result["tuned"]["num_rows"] > 0
    assert run.result["base"]["eval_loss"] != run.result["tuned"]["eval_loss"]
    assert run.result["verification"]["passed"]
