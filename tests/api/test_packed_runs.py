"""`data.packing` from the recipe to the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_models import SPECIAL_IDS, VOCABULARY, save_checkpoint

import kft
from kft.api.observer import Silent
from kft.api.plan import wants_packing, window_plan
from kft.errors import Finding
from kft.recipe.schema import Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import Example

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]


def recipe(task: str, **data: Any) -> Recipe:
    values = {
        "task": task,
        "model": {"name_or_path": "checkpoint"},
        "data": {"train": "rows.jsonl", "max_length": 10, **data},
        "train": {"per_device_train_batch_size": 2, "num_train_epochs": 1.0},
        "output_dir": "run",
    }
    return Recipe.model_validate(values)


@pytest.mark.parametrize(
    ("task", "data", "packed"),
    [
        ("causal_lm", {}, True),
        ("masked_lm", {}, True),
        ("sequence_classification", {}, False),
        ("token_classification", {}, False),
        ("causal_lm", {"streaming": True}, False),
        ("causal_lm", {"packing": False}, False),
        ("sequence_regression", {"packing": True}, True),
    ],
)
def test_auto_packs_where_tokens_are_counted(task: str, data: dict[str, Any], packed: bool) -> None:
    assert wants_packing(recipe(task, **data), TASKS[task]) == packed


def test_a_batch_counts_packed_rows() -> None:
    examples = [Example([5] * length, [5] * length, "row", "가") for length in (6, 4, 5, 5, 9)]
    plan = window_plan(recipe("causal_lm"), examples, packed=True)
    assert (plan.num_rows, plan.total_steps) == (3, 2)
    assert window_plan(recipe("causal_lm"), examples, packed=False).total_steps == 3


def test_a_model_that_keeps_nothing_apart_is_padded_and_said_so(
    tiny_tokenizer: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
) -> None:
    from transformers import BloomConfig

    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=4, **SPECIAL_IDS)
    checkpoint = save_checkpoint(config, tiny_tokenizer, tmp_path / "bloom")
    keys = {"data.packing": True, "export.merge": False, "train.max_steps": 2}
    told: list[str] = []

    class Listens(Silent):
        def finding(self, finding: Finding) -> None:
            told.append(finding.what)

    run = kft.finetune(recipe_file(checkpoint, korean_rows, keys), observer=Listens())
    assert any("`bloom` doesn't keep packed rows apart" in what for what in told)
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert "data.packing" in json.dumps(environment)
    assert run.metrics["num_targets"].max() < 4 * 100
