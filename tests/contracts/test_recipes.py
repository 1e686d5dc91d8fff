"""The recipes that are shipped: few, readable by kft, each with its own command in its head."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

from kft.errors import RecipeError
from kft.recipe.reader import read_recipe

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes"
AT_MOST = 12

RECIPES = sorted(path for ending in ("yaml", "yml") for path in FOLDER.rglob(f"*.{ending}"))


def head(path: Path) -> str:
    """The comment that a recipe begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(takewhile(lambda line: line.startswith("#"), lines))


def carries_its_command(path: Path, root: Path) -> bool:
    return f"kft finetune {path.relative_to(root).as_posix()}" in head(path)


def test_there_are_recipes_but_not_many() -> None:
    assert FOLDER / "quickstart.yaml" in RECIPES
    assert 1 <= len(RECIPES) <= AT_MOST


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_each_reads_and_carries_its_command(path: Path) -> None:
    assert read_recipe(path, {}).output_dir.startswith("runs/")
    assert carries_its_command(path, ROOT)


def test_each_has_a_run_folder_of_its_own() -> None:
    folders = [read_recipe(path, {}).output_dir for path in RECIPES]
    assert len(set(folders)) == len(folders)


def test_a_planted_wrong_recipe_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "other.yaml"
    path.parent.mkdir()
    text = FOLDER.joinpath("quickstart.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    assert not carries_its_command(path, tmp_path)  # its head still names quickstart.yaml
    path.write_text(text + "\nlearning_rate: 0.1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="learning_rate"):
        read_recipe(path, {})
