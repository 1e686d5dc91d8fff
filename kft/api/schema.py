"""What can be asked about a recipe before anything heavy is loaded: its keys, and its own values."""

from __future__ import annotations

from kft.recipe.describe import schema_json, schema_text
from kft.recipe.reader import read_recipe

__all__ = ["read_recipe", "schema_json", "schema_text"]
