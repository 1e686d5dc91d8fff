"""Rows without what the task learns: told of all of them, before the model is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.errors import DataError

if TYPE_CHECKING:
    from conftest import RecipeFile

TEXTS = [{"text": "하늘이 높고 바람이 선선하다"}] * 12
ANSWERS = [{"prompt": "하늘이", "completion": "높고", "별점": "3"}] * 12


@pytest.mark.parametrize(
    ("task", "rows", "learned", "taken", "hint"),
    [
        (
            "sequence_classification",
            TEXTS,
            "a label",
            "`label`; the rows were taken for `text`: text from `text`",
            "Add a column `label`, or learn one of `causal_lm`, `masked_lm` as `task`.",
        ),
        (
            "sequence_classification",
            ANSWERS,
            "a label",
            "`label`; the rows were taken for `prompt_completion`: prompt from `prompt`, "
            "completion from `completion`; `별점` is not used",
            "If `별점` holds it: `data.columns: {text: prompt, label: X}`, with its name for X.",
        ),
        ("sequence_regression", TEXTS, "a number", "`label`; the rows", "Add a column `label`"),
        ("token_classification", TEXTS, "tags", "`tags`; the rows", "Add a column `tags`"),
    ],
)
def test_all_rows_lack_what_the_task_learns(
    task: str,
    rows: list[dict[str, Any]],
    learned: str,
    taken: str,
    hint: str,
    tiny_bert: Path,
    recipe_file: RecipeFile,
) -> None:
    """No warning of torch's either, which would be an error here."""
    recipe = recipe_file(tiny_bert, rows, {"task": task})
    with pytest.raises(DataError) as caught:
        kft.check(recipe)
    error = caught.value
    assert error.what == f"No row of 12 has {learned}, which `task: {task}` learns"
    assert error.where == str(recipe.with_suffix(".jsonl"))
    assert (error.expected or "").startswith(f"a column for the role {taken}")
    assert (error.hint or "").startswith(hint)


def test_the_hint_can_be_followed(tiny_bert: Path, recipe_file: RecipeFile) -> None:
    labels = ["좋다" if number % 2 else "나쁘다" for number in range(12)]
    rows = [{**row, "별점": label} for row, label in zip(ANSWERS, labels, strict=True)]
    keys = {"task": "sequence_classification", "data.columns": {"text": "prompt", "label": "별점"}}
    assert kft.check(recipe_file(tiny_bert, rows, keys)).sections["rows"]["train"] == 6
