"""From a YAML file and overrides to a Recipe, or to an error that names the line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kft.errors import RecipeError, name_list
from kft.recipe.core_yaml import RecipeDumper, as_typed, printable
from kft.recipe.document import Document, parse, read_document
from kft.recipe.keys import keys, names_in, section_names
from kft.recipe.problems import (
    Problem,
    first_error,
    place_of,
    schema_problems,
    unknown_key,
)
from kft.recipe.rules import conflicts
from kft.recipe.schema import Recipe
from kft.recipe.source import Location, Place, Source

Overrides = Mapping[str, Any] | Sequence[str]


def read_recipe(path: str | Path, overrides: Overrides | None = None) -> Recipe:
    """Read a recipe, put the overrides over it, and check every key.

    Args:
        path: The YAML file; relative to the current directory.
        overrides: ``{"adapter.r": 16}``, or ``["adapter.r=16"]`` as on a command line, where
            the value is read as YAML. A section as a whole sets the keys that it names.

    Returns:
        The recipe, with `adapter.method: qlora` spelled out as `model.quantization: nf4`
        unless another quantization was written.

    Raises:
        RecipeError: If the file can't be read, or if a key is unknown, missing, written twice
            or has a wrong value, or if keys don't go together. It tells the first problem and
            the number of the others.

    Example:
        >>> read_recipe("recipes/quickstart.yaml", {"adapter.r": 16}).adapter.r
        16
    """
    recipe, problems, cause = _read(path, overrides)
    if recipe is None or problems:
        raise first_error(problems) from cause
    return recipe


def find_problems(path: str | Path, overrides: Overrides | None = None) -> list[RecipeError]:
    """Everything that is wrong with a recipe, in the order of its lines.

    Args:
        path: As in :func:`read_recipe`.
        overrides: As in :func:`read_recipe`.

    Returns:
        One error for each problem; none if the recipe can be read. A file that isn't YAML has
        one problem. Rules between keys are looked at when every single key is right.
    """
    try:
        _, problems, _ = _read(path, overrides)
    except RecipeError as error:
        return [error]
    return [problem.error() for problem in sorted(problems, key=lambda problem: problem.order)]


def override_recipe(recipe: Recipe, overrides: Overrides) -> Recipe:
    """The same recipe with some keys changed.

    Args:
        recipe: It stays as it is.
        overrides: As in :func:`read_recipe`.

    Returns:
        The changed recipe. Keys that stand at their default count as not written.

    Raises:
        RecipeError: As in :func:`read_recipe`.

    Example:
        >>> recipe = Recipe.model_validate(
        ...     {"model": {"name_or_path": "m"}, "data": {"train": "d"}, "output_dir": "o"}
        ... )
        >>> override_recipe(recipe, ["adapter.r=16"]).adapter.r
        16
    """
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    document = Document(values, {(): Place("recipe", (0, 0))}, "recipe")
    changed, problems, cause = _check(document, overrides)
    if changed is None or problems:
        raise first_error(problems) from cause
    return changed


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write every key of a recipe as YAML, in the schema's order.

    Args:
        recipe: A recipe that :func:`read_recipe` has made.
        path: The file to write; its folder exists. ``read_recipe`` gives an equal recipe back.
    """
    text = yaml.dump(
        recipe.resolved(),
        Dumper=RecipeDumper,
        allow_unicode=True,
        sort_keys=False,
        width=10**6,  # one line for one value
    )
    path.write_bytes(text.encode())


_Outcome = tuple[Recipe | None, list[Problem], ValidationError | None]


def flat_values(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe by the paths of its keys, such as ``adapter.r``."""
    return dict(_flat(recipe))


def _flat(section: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in section.items():
        if isinstance(value, Mapping) and key != "columns":
            items += _flat(value, f"{above}{key}.")
        else:
            items.append((above + key, value))
    return items


def _read(path: str | Path, overrides: Overrides | None) -> _Outcome:
    path = Path(path)
    document = read_document(path)
    source = Source(str(path))
    takes = f"a mapping with the keys {name_list(names_in(''))}"
    if document.values is None:
        hint = "`kft schema` prints every key with its meaning and default."
        raise source.refuse("The recipe is empty", None, takes, hint)
    if not isinstance(document.values, dict):
        kind = "a list" if isinstance(document.values, list) else "a single value"
        raise source.refuse(f"The recipe is {kind}", 1, takes)
    return _check(document, overrides)


def _check(document: Document, overrides: Overrides | None) -> _Outcome:
    problems = []
    for source, path, value, places in _override_items(overrides):
        problems += _put(document, path, value, source, places)
    for name in section_names():
        if document.values.get(name, ...) is None:  # a section whose keys are all commented out
            document.values[name] = {}
    try:
        recipe = Recipe.model_validate(document.values)
    except ValidationError as error:
        return None, problems + schema_problems(error, document), error
    recipe = _spell_out_qlora(recipe, document)
    for conflict in conflicts(recipe):
        place = place_of(document, tuple(conflict.key.split(".")))
        what, takes = printable(conflict.what, 200), printable(conflict.expected, 400)
        problems.append(Problem(what, place.where, takes, conflict.hint, place.order))
    return recipe, problems, None


def _spell_out_qlora(recipe: Recipe, document: Document) -> Recipe:
    if recipe.adapter.method != "qlora" or "quantization" in document.values["model"]:
        return recipe
    model = recipe.model.model_copy(update={"quantization": "nf4"})
    return recipe.model_copy(update={"model": model})


_Item = tuple[Source, str, Any, dict[Location, Place]]


def _override_items(overrides: Overrides | None) -> Iterator[_Item]:
    """Each override as its source, key, value and the places inside the value."""
    if overrides is None:
        return
    if isinstance(overrides, Mapping):
        for rank, (key, value) in enumerate(overrides.items(), start=1):
            path, value = str(key), _plain(value)
            name = f"override `{printable(f'{path}={as_typed(value)}')}`"
            yield Source(name, rank), path, value, {}
        return
    written: set[str] = set()
    for rank, text in enumerate([overrides] if isinstance(overrides, str) else overrides, start=1):
        source = Source(f"override `{printable(text)}`", rank)
        path, equals, value_text = text.partition("=")
        path = path.strip()
        if not path or not equals:
            raise source.refuse("The override isn't of the form `key=value`", None, "`key=value`")
        if path in written:
            raise source.refuse(f"Key `{printable(path)}` is overridden twice", None, "it once")
        written.add(path)
        # On a command line a leading `*` begins a glob, never an alias.
        quoted = f"'{value_text}'" if value_text.startswith("*") else value_text
        document = parse(quoted, source)
        yield source, path, document.values, document.places


def _put(
    document: Document, path: str, value: Any, source: Source, places: dict[Location, Place]
) -> list[Problem]:
    """Set a key, or the keys of a section, in the document; tell the key if there is none."""
    if path in section_names() and isinstance(value, dict):
        return [
            problem
            for name, own in value.items()
            for problem in _put(document, f"{path}.{name}", _plain(own), source, {})
        ]
    location: Location = tuple(path.split("."))
    if not _can_be_set(path):
        section, _, name = path.partition(".")
        if not name or section not in section_names():
            section, name = "", path
        return [unknown_key(section, name, source.place(0), value)]
    target = document.values
    for part in location[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            return []  # the file's own section is wrong, and that is told
    target[location[-1]] = value
    for old in [spot for spot in document.places if spot[: len(location)] == location]:
        del document.places[old]
    document.places[location] = source.place(0, 0, places[()].text if () in places else None)
    document.places.update({(*location, *spot): place for spot, place in places.items() if spot})
    return []


def _can_be_set(path: str) -> bool:
    """Whether the path is a key, a section, or an entry of a key that holds a mapping."""
    if path in keys() or path in section_names():
        return True
    parent = keys().get(path.rpartition(".")[0])
    return parent is not None and parent.form("object") is not None


def _plain(value: Any) -> Any:
    """Paths as text and tuples as lists, as Python callers write them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
    return value
