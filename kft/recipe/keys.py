"""The recipe's keys as facts: type, limits, default and meaning of each, read off the schema.

Messages, the reference page and the nearest-name hints are all made from these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kft.errors import name_list
from kft.recipe.schema import Recipe
from kft.recipe.section import Section

Form = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """One key of the recipe.

    Args:
        path: With its section, for example `adapter.r`.
        required: Whether it has no default.
        default: Its default; meaningless when it is required.
        description: What it means.
        forms: The alternatives of its type, each as JSON Schema.
    """

    path: str
    required: bool
    default: Any
    description: str
    forms: tuple[Form, ...]

    @property
    def section(self) -> str:
        """The section it stands in; empty at the top level."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key without its section."""
        return self.path.rpartition(".")[2]

    @property
    def choices(self) -> list[str]:
        """The fixed values it may have, as a recipe spells them; numbers and text are not."""
        return [choice for form in self.forms for choice in choices_of(form)]

    @property
    def expected(self) -> str:
        """What it takes, in words.

        Example:
            >>> keys()["adapter.r"].expected
            'a whole number, at least 1'
        """
        return expected(self.forms)

    def form(self, kind: str) -> Form | None:
        """Its alternative of a JSON Schema type such as ``array``, without fixed values."""
        return next((f for f in self.forms if f.get("type") == kind and not choices_of(f)), None)


@dataclass(frozen=True)
class SectionFacts:
    """A section with its keys in the schema's order; the top level has the empty name."""

    name: str
    description: str
    keys: tuple[Key, ...]


@cache
def sections() -> tuple[SectionFacts, ...]:
    """Every section of the recipe, the top level first."""
    schema = Recipe.model_json_schema()
    top = [name for name in Recipe.model_fields if name not in section_names()]
    facts = [SectionFacts("", _summary(Recipe), _keys(Recipe, "", top, schema, schema))]
    for name in section_names():
        model: Any = Recipe.model_fields[name].annotation
        form = _resolve(schema["properties"][name], schema)
        section_keys = _keys(model, f"{name}.", list(model.model_fields), form, schema)
        facts.append(SectionFacts(name, _summary(model), section_keys))
    return tuple(facts)


@cache
def keys() -> dict[str, Key]:
    """Every key by its path.

    Example:
        >>> keys()["adapter.method"].choices
        ['lora', 'qlora', 'full']
    """
    return {key.path: key for section in sections() for key in section.keys}


@cache
def section_names() -> tuple[str, ...]:
    """The names of the sections.

    Example:
        >>> section_names()[:3]
        ('model', 'adapter', 'data')
    """
    return tuple(
        name
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    )


@cache
def key_paths() -> tuple[str, ...]:
    """The path of every key, as `keys` has them.

    Without the JSON schema that `keys` reads: a misspelt key is to be answered at once.

    Example:
        >>> key_paths() == tuple(keys())
        True
    """
    top = [name for name in Recipe.model_fields if name not in section_names()]
    inner = [f"{section}.{name}" for section in section_names() for name in names_in(section)]
    return (*top, *inner)


def names_in(section: str) -> list[str]:
    """The names that may stand in a section; the empty name is the top level.

    Example:
        >>> names_in("")[:3]
        ['task', 'model', 'adapter']
    """
    if section == "":
        return list(Recipe.model_fields)
    model: Any = Recipe.model_fields[section].annotation
    return list(model.model_fields)


def expected(forms: Sequence[Form]) -> str:
    """What a value of one of the forms is, in words."""
    words = [_words(form) for form in forms if not choices_of(form)]
    all_choices = [choice for form in forms for choice in choices_of(form)]
    if not words:
        return one_of(all_choices)
    return ", or ".join([*words, name_list(all_choices, limit=99)] if all_choices else words)


def one_of(names: Sequence[str], limit: int = 99) -> str:
    """Names for an ``expected:`` line.

    Example:
        >>> one_of(["lora", "full"]), one_of(["lora"])
        ('one of `lora`, `full`', '`lora`')
    """
    return name_list(names) if len(names) == 1 else f"one of {name_list(names, limit)}"


def choices_of(form: Form) -> list[str]:
    """The fixed values of a form, as a recipe spells them."""
    if form.get("type") == "boolean":
        return ["true", "false"]
    if form.get("type") == "null":
        return ["null"]
    return [str(value) for value in form.get("enum", [form["const"]] if "const" in form else [])]


def _words(form: Form) -> str:
    match form.get("type"):
        case "integer":
            return _with_limits("a whole number", form)
        case "number":
            return _with_limits("a number", form)
        case "string" if "pattern" in form:
            return f"text that matches `{form['pattern']}`"
        case "string":
            return "text, not empty" if form.get("minLength") else "text"
        case "array":
            items = _plural(expected(alternatives(form["items"])))
            return f"a list of {items}, not empty" if form.get("minItems") else f"a list of {items}"
        case "object" if "properties" in form:
            return f"a mapping of {name_list(list(form['properties']), limit=99)}"
        case "object":
            roles = expected([form["propertyNames"]]) if "propertyNames" in form else "a name"
            return (
                f"a mapping from {roles} to {expected(alternatives(form['additionalProperties']))}"
            )
        case other:
            raise TypeError(f"no words for the type {other!r} in the schema")


def _plural(words: str) -> str:
    return re.sub(r"^a (whole )?number", r"\1numbers", words).replace("a mapping", "mappings")


def _with_limits(words: str, form: Form) -> str:
    limits = [
        f"{relation} {form[name]:g}"
        for name, relation in [
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        ]
        if name in form
    ]
    return f"{words}, {' and '.join(limits)}" if limits else words


def _keys(
    model: type[Section], prefix: str, names: list[str], form: Form, schema: Form
) -> tuple[Key, ...]:
    return tuple(
        Key(
            path=prefix + name,
            required=model.model_fields[name].is_required(),
            default=model.model_fields[name].get_default(call_default_factory=True)
            if not model.model_fields[name].is_required()
            else None,
            description=model.model_fields[name].description or "",
            forms=tuple(alternatives(form["properties"][name], schema)),
        )
        for name in names
    )


def alternatives(form: Form, schema: Form | None = None) -> list[Form]:
    """The forms that a JSON Schema node allows, with references and lists' items resolved."""
    forms = [_resolve(part, schema) for part in form.get("anyOf", [form])]
    return [
        {**part, "items": {"anyOf": alternatives(part["items"], schema)}}
        if part.get("type") == "array"
        else part
        for part in forms
    ]


def _resolve(form: Form, schema: Form | None) -> Form:
    if "$ref" not in form or schema is None:
        return form
    target: Form = schema["$defs"][form["$ref"].rpartition("/")[2]]
    return target


def _summary(model: type[Section]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]
