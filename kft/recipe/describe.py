"""The recipe's keys for people and editors: `kft schema`, its JSON form, the reference page."""

from __future__ import annotations

import textwrap
from typing import Any

from kft.recipe.core_yaml import as_typed
from kft.recipe.keys import Key, SectionFacts, sections
from kft.recipe.schema import Recipe

_WIDTH = 80


def schema_text() -> str:
    """Every key with its type, limits, default and meaning, in 80 columns without colour.

    Returns:
        What `kft schema` prints; ends in a newline.

    Example:
        >>> schema_text().splitlines()[0]
        'A recipe is a YAML file. Keys without a default are marked `required`.'
    """
    lines = ["A recipe is a YAML file. Keys without a default are marked `required`."]
    for section in sections():
        indent = ""
        if section.name:
            title = f"{section.name}: {section.description}"
            lines += ["", *textwrap.wrap(title, _WIDTH, subsequent_indent="  ")]
            indent = "  "
        for key in section.keys:
            lines += ["", *_key_lines(key, indent)]
    return "\n".join(lines) + "\n"


def schema_json() -> dict[str, Any]:
    """The JSON Schema of a recipe, for completion and checks in an editor.

    Returns:
        A JSON Schema (draft 2020-12). It holds single keys; rules between keys are kft's own.

    Example:
        >>> schema_json()["title"]
        'kft recipe'
    """
    schema = Recipe.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kft recipe"}
    return head | {name: value for name, value in schema.items() if name != "title"}


def schema_markdown() -> str:
    """The reference page of the recipe: one table for each section.

    Returns:
        Markdown; ends in a newline.
    """
    parts = ["# The recipe", "Made from the program by `kft schema`; do not edit."]
    for section in sections():
        parts.append(f"## `{section.name}`" if section.name else "## Top level")
        parts += [section.description, _table(section)]
    return "\n\n".join(parts) + "\n"


def _key_lines(key: Key, indent: str) -> list[str]:
    head = f"{indent}{key.name}"
    inner = indent + "    "
    facts = f"{key.expected}; {_default(key)}"
    texts = [facts, key.description]
    return [
        head,
        *(
            line
            for text in texts
            for line in textwrap.wrap(
                text,
                _WIDTH,
                initial_indent=inner,
                subsequent_indent=inner,
                break_long_words=False,
                break_on_hyphens=False,
            )
        ),
    ]


def _table(section: SectionFacts) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in section.keys:
        default = "required" if key.required else f"`{_spelled(key.default)}`"
        cells = [f"`{key.name}`", key.expected, default, key.description]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _default(key: Key) -> str:
    return "required" if key.required else f"default `{_spelled(key.default)}`"


def _spelled(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else as_typed(default)
