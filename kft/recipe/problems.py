"""What is wrong with a recipe, with its place, what was expected, and a hint.

Every expected text comes from :mod:`kft.recipe.keys`, so from the schema.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kft.errors import RecipeError, name_list, nearest_name
from kft.recipe.core_yaml import as_typed, plain_number, printable
from kft.recipe.document import Document
from kft.recipe.foreign_names import FOREIGN_KEYS, FOREIGN_VALUES, ROW_LIMITS, meant_choice
from kft.recipe.keys import (
    Form,
    Key,
    alternatives,
    choices_of,
    expected,
    key_paths,
    keys,
    names_in,
    one_of,
    section_names,
)
from kft.recipe.source import Location, Place

_LAST = 1_000_000_000


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; the parts are those of an error.

    Args:
        what: As in :class:`~kft.errors.KftError`, and so are the next three.
        where: ``file:line``, a file, or an override.
        expected: What would have been right.
        hint: One edit that mends it.
        order: Problems are told in this order.
    """

    what: str
    where: str
    expected: str | None
    hint: str | None
    order: tuple[int, int]

    def error(self, others: int = 0) -> RecipeError:
        """The problem as an error that also says how many others there are."""
        count = f" ({others} more in this recipe)" if others else ""
        return RecipeError(
            self.what + count, where=self.where, expected=self.expected, hint=self.hint
        )


def first_error(problems: Sequence[Problem]) -> RecipeError:
    """The first problem in full, with the number of the others."""
    first, *others = sorted(problems, key=lambda problem: problem.order)
    return first.error(len(others))


def unknown_key(section: str, name: str, place: Place, value: Any = None) -> Problem:
    """A key that its section does not have; the empty section is the top level."""
    path = f"{section}.{name}" if section else name
    return Problem(
        f"Unknown key `{printable(path)}`",
        place.where,
        one_of(names_in(section), limit=5),
        _key_hint(section, name, value),
        place.order,
    )


def bad_value(key: Key, spot: Location, document: Document) -> Problem:
    """A value that its key, or one item of its list or mapping, does not take."""
    value: Any = value_at(document, spot)
    place = place_of(document, spot)
    typed = _as_written(value, place.text)
    inner = spot[len(key.path.split(".")) :]
    names = [key.path, *(printable(part) for part in inner if isinstance(part, str))]
    is_item = bool(inner) and isinstance(inner[-1], int)
    forms = _forms_at(key, inner)
    takes = key.expected if is_item else expected(forms)
    what = f"Invalid value {'in' if is_item else 'for'} `{'.'.join(names)}`, got `{typed}`"
    return Problem(what, place.where, takes, value_hint(forms, value, place.text), place.order)


def schema_problems(error: ValidationError, document: Document) -> list[Problem]:
    """What pydantic found, one problem for each key, item or role that is wrong."""
    problems = []
    spots: dict[Location, tuple[Key, Callable[[Key, Location, Document], Problem]]] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        location: Location = tuple(detail["loc"])
        path = ".".join(str(part) for part in location[:2])
        if detail["type"] == "missing" and len(location) <= 2:
            problems.append(_missing_key(location, document))
        elif detail["type"] == "extra_forbidden" and len(location) <= 2:
            section = str(location[0]) if len(location) == 2 else ""
            found = value_at(document, location)
            place = place_of(document, location)
            problems.append(unknown_key(section, str(location[-1]), place, found))
        elif len(location) == 1 and location[0] in section_names():
            problems.append(_not_a_section(str(location[0]), document))
        else:
            key = keys().get(path) or keys()[str(location[0])]
            is_name = detail["type"] == "extra_forbidden" or "[key]" in location
            spot = _spot(key, location, document)
            spots.setdefault(spot, (key, _unknown_name if is_name else bad_value))
    for spot, (key, kind) in spots.items():
        if any(len(other) > len(spot) and other[: len(spot)] == spot for other in spots):
            continue  # an item of this list is wrong, and is told instead
        problems.append(kind(key, spot, document))
    return problems


def place_of(document: Document, location: Location) -> Place:
    """Where a location was written, or else the nearest thing around it."""
    while location not in document.places:
        location = location[:-1]
    return document.places[location]


def value_at(document: Document, location: Location) -> Any:
    """The value at a location."""
    value = document.values
    for part in location:
        value = value[part]
    return value


def value_hint(forms: Sequence[Form], value: Any, text: str | None) -> str | None:
    """One edit that makes ``value`` fit one of the forms, or ``None``."""
    return next((hint for hint in _value_hints(forms, value, text) if hint), None)


def _spot(key: Key, location: Location, document: Document) -> Location:
    """The key's location, or that of its wrong item, without pydantic's names of alternatives."""
    start: Location = tuple(key.path.split("."))
    value = value_at(document, start)
    for part in location[len(start) :]:
        is_item = isinstance(value, list) and isinstance(part, int)
        if is_item or (isinstance(value, dict) and part in value):
            start, value = (*start, part), value[part]
    return start


def _forms_at(key: Key, inner: Location) -> tuple[Form, ...]:
    """The forms that an item of the key's list or mapping may have."""
    forms = key.forms
    for part in inner:
        kind = "array" if isinstance(part, int) else "object"
        form: Form = next((f for f in forms if f.get("type") == kind), {})
        if kind == "array":
            found = form.get("items", {"type": "string"})
        else:
            other = form.get("additionalProperties") or {"type": "string"}
            found = form.get("properties", {}).get(part, other)
        forms = tuple(alternatives(found))
    return forms


def _unknown_name(key: Key, spot: Location, document: Document) -> Problem:
    """A name that a mapping inside a key's value does not have."""
    name, place = str(spot[-1]), place_of(document, spot)
    outer = _forms_at(key, spot[len(key.path.split(".")) : -1])
    form: Form = next(form for form in outer if form.get("type") == "object")
    word, names = "key", list(form.get("properties", {}))
    if "propertyNames" in form:
        word, names = "role", form["propertyNames"]["enum"]
    near = nearest_name(name, names)
    return Problem(
        f"Unknown {word} `{printable(name)}` in `{key.path}`",
        place.where,
        one_of(names),
        f"Did you mean `{near}`?" if near else None,
        place.order,
    )


def _missing_key(location: Location, document: Document) -> Problem:
    path = ".".join(str(part) for part in location)
    place = place_of(document, location[:-1])
    section = section_names()
    if path in section:
        needed = [key.name for key in keys().values() if key.section == path and key.required]
        takes = f"a section with at least {name_list(needed, limit=99)}"
    else:
        takes = keys()[path].description
    where = place.where if len(location) > 1 else document.name
    hint = "`kft schema` prints every key with its meaning and default."
    return Problem(f"Missing key `{path}`", where, takes, hint, (_LAST, place.order[1]))


def _not_a_section(name: str, document: Document) -> Problem:
    value = value_at(document, (name,))
    place = place_of(document, (name,))
    hint = None
    if not isinstance(value, (list, dict)):
        own = [key for key in keys().values() if key.section == name]
        takers = [key for key in own if str(value) in key.choices]
        takers += [key for key in own if key.required and isinstance(value, str)]
        if takers:
            hint = f"Write `{takers[0].name}: {_as_written(value, place.text)}` under `{name}:`."
    return Problem(
        f"`{name}` is a section, got `{_as_written(value, place.text)}`",
        place.where,
        f"keys under it: {name_list(names_in(name))}",
        hint,
        place.order,
    )


def _key_hint(section: str, name: str, value: Any) -> str | None:
    """Which key was probably meant: one elsewhere, another toolkit's word, or a misspelling."""
    word = name.strip().lower().replace("-", "_")
    paths = {path: path.rpartition(".")[2] for path in key_paths()}
    if word in paths and "." in word:
        parent, _, child = word.partition(".")
        return f"Write `{child}` on a line of its own under `{parent}:`."
    here = [own for own in names_in(section) if own == word]
    elsewhere = [path for path, own in paths.items() if own == word]
    elsewhere += [own for own in section_names() if own == word]
    if section == "data" and word in ROW_LIMITS:
        return ROW_LIMITS[word]
    if word == "data" and isinstance(value, str):
        elsewhere = ["data.train"]
    foreign = [FOREIGN_KEYS[word]] if word in FOREIGN_KEYS else []
    if foreign and foreign[0].startswith(f"{section}."):
        elsewhere = []
    near = nearest_name(word, names_in(section))
    nearly = difflib.get_close_matches(word, list(paths.values()), 1, 0.8)
    far = [path for path, own in paths.items() if own in nearly]
    if here or elsewhere or foreign:
        return _did_you_mean((here or elsewhere or foreign)[0], section, here=bool(here))
    if near is not None:
        return f"Did you mean `{near}`?"
    return _did_you_mean(far[0], section) if far else None


def _did_you_mean(target: str, section: str, *, here: bool = False) -> str:
    path = target.partition(":")[0]
    if here or path.rpartition(".")[0] == section:
        return f"Did you mean `{target.removeprefix(section + '.')}`?"
    if "." not in path:
        return f"Did you mean `{target}` at the top level?"
    return f"Did you mean `{target}`?"


def _value_hints(forms: Sequence[Form], value: Any, text: str | None) -> Iterator[str | None]:
    typed = _as_written(value, text)
    types = {form.get("type") for form in forms}
    choices = [choice for form in forms for choice in choices_of(form)]
    if choices:
        yield _choice_hint(choices, value)
    if any(f.get("type") == "string" and not choices_of(f) for f in forms):
        yield f'Put it in quotes: `"{typed}"`.' if isinstance(value, (bool, int, float)) else None
    if "array" in types and isinstance(value, (str, int)) and not isinstance(value, bool):
        yield f"Write `[{typed}]`."
    if types & {"integer", "number"}:
        yield _number_hint(forms, value)


def _number_hint(forms: Sequence[Form], value: Any) -> str | None:
    if isinstance(value, str) and (number := plain_number(value)) is not None:
        return f"Write `{number}`, without quotes."
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        whole = [form for form in forms if form.get("type") == "integer"]
        return f"Write `{int(value)}`." if whole else _share_hint(forms, value)
    return _share_hint(forms, value)


def _share_hint(forms: Sequence[Form], value: float) -> str | None:
    if any(form.get("exclusiveMaximum") == 1 for form in forms) and 1 <= value < 100:
        return f"It is a share: {value:g} % is `{value / 100:g}`."
    return None


def _choice_hint(choices: Sequence[str], value: Any) -> str | None:
    word = as_typed(value).strip("\"'").lower()
    if {"true", "false"} <= set(choices) and word in {"yes", "on", "no", "off", "1", "0"}:
        return f"Write `{'true' if word in {'yes', 'on', '1'} else 'false'}`."
    foreign = FOREIGN_VALUES.get(word)
    meant = foreign if foreign in choices else None
    if isinstance(value, str):
        meant = meant_choice(word, choices)
    return f"Did you mean `{meant}`?" if meant else None


def _as_written(value: Any, text: str | None) -> str:
    return printable(text if text is not None else as_typed(value))
