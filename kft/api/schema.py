"""What can be said about a recipe before anything heavy is loaded."""

from __future__ import annotations

from kft.recipe.describe import schema_json, schema_text
from kft.recipe.reader import find_problems, read_recipe

__all__ = ["find_problems", "read_recipe", "schema_json", "schema_text"]
