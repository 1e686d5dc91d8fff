"""Paths of a recipe: `~` is the home folder, and what is written down holds from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kft.recipe.schema import Recipe
from kft.recipe.section import SourceSection


def with_home(recipe: Recipe) -> Recipe:
    """The recipe with a leading ``~`` expanded in every path."""
    return _each_path(
        recipe, lambda path: str(Path(path).expanduser()) if path[:1] == "~" else path
    )


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with every path that exists here made absolute; hub names stay as they are.

    That is what the run folder keeps, so that the run can be used from another folder, and a
    local checkpoint is never taken for a name on the hub.
    """
    return _each_path(recipe, lambda path: str(Path(path).absolute()) if _is_here(path) else path)


def with_names_alone(recipe: Recipe) -> Recipe:
    """The recipe with the last part of every path: what may be told of it elsewhere."""
    return _each_path(recipe, lambda path: Path(path).name if _leads_away(path) else path)


def _leads_away(path: str) -> bool:
    return path.startswith(("/", "~", ".")) or Path(path).exists()


def absolute(path: str) -> str:
    """A path that exists here made absolute; anything else, such as a hub name, as it is."""
    return str(Path(path).absolute()) if _is_here(path) else path


def _is_here(path: str) -> bool:
    # A glob is no file, but the folder that it begins in is one.
    fixed = path.split("*", 1)[0].split("?", 1)[0].split("[", 1)[0]
    return Path(path).exists() or (fixed != path and Path(fixed).parent.exists())


def _each_path(recipe: Recipe, change: Any) -> Recipe:
    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        if isinstance(value, SourceSection):
            return value.model_copy(update={"path": change(value.path)})
        return None if value is None else change(value)

    model, data, evaluate = recipe.model, recipe.data, recipe.evaluate
    general = evaluate.general_text
    general = general if general == "auto" else changed(general)
    tokenizer = model.tokenizer if model.tokenizer == "train" else changed(model.tokenizer)
    return recipe.model_copy(
        update={
            "model": model.model_copy(
                update={"name_or_path": change(model.name_or_path), "tokenizer": tokenizer}
            ),
            "adapter": recipe.adapter.model_copy(
                update={"start_from": changed(recipe.adapter.start_from)}
            ),
            "data": data.model_copy(
                update={
                    "train": changed(data.train),
                    "eval": changed(data.eval),
                    "template": data.template
                    if data.template.isidentifier()
                    else change(data.template),
                }
            ),
            "evaluate": evaluate.model_copy(update={"general_text": general}),
            "output_dir": change(recipe.output_dir),
        }
    )
