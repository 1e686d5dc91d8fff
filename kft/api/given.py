"""What a person gives as a recipe: one that is read already, or the path of its file."""

from __future__ import annotations

from pathlib import Path

from kft.api.paths import with_home
from kft.recipe.reader import Overrides, override_recipe, read_recipe
from kft.recipe.schema import Recipe

RecipeOrPath = Recipe | str | Path


def as_recipe(recipe_or_path: RecipeOrPath, overrides: Overrides | None = None) -> Recipe:
    """The recipe of a path or of an object, with overrides.

    Raises:
        RecipeError: If it can't be read or doesn't make sense.
    """
    if not isinstance(recipe_or_path, Recipe):
        return with_home(read_recipe(recipe_or_path, overrides))
    recipe = override_recipe(recipe_or_path, overrides) if overrides else recipe_or_path
    return with_home(recipe)
