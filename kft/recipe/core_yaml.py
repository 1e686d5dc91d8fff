"""YAML 1.2's core types for PyYAML, which alone reads YAML 1.1.

There `2e-4` is text, `no` is false, `012` is ten and a date is an object; and an anchor can
grow a small file into gigabytes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_DEPTH = 20

TAG = "tag:yaml.org,2002:"
CORE_TYPES = [
    (TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
    (TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    (TAG + "int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")),
    (
        TAG + "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
    ),
]


class RecipeDumper(yaml.SafeDumper):
    """Writes what the loader of this module reads back to the same values."""

    yaml_implicit_resolvers = {None: CORE_TYPES}  # noqa: RUF012 -- PyYAML's own class attribute

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- PyYAML's signature
        """Never write an anchor: the loader refuses them."""
        return True


def _represent_text(dumper: RecipeDumper, text: str) -> yaml.ScalarNode:
    # Escapes, because YAML folds the rarer line breaks into spaces.
    return dumper.represent_scalar(TAG + "str", text, style=None if text.isprintable() else '"')


RecipeDumper.add_representer(str, _represent_text)


class Refused(yaml.MarkedYAMLError):
    """Valid YAML that a recipe does not take."""

    def __init__(self, problem: str, mark: Any, expected: str | None, hint: str | None) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.expected = expected
        self.hint = hint


class RecipeLoader(yaml.SafeLoader):
    """Composes nodes; refuses anchors, and nesting that would exhaust the stack."""

    yaml_implicit_resolvers = {None: CORE_TYPES}  # noqa: RUF012 -- PyYAML's own class attribute

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node of the tree, with everything under it."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise Refused(
                "Anchors and aliases (`&name`, `*name`) aren't part of a recipe",
                event.start_mark,
                "every value written where it is used",
                "Put text that begins with `*` or `&` in quotes.",
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refused(
                "The recipe is nested too deeply",
                event.start_mark,
                f"at most {MAX_DEPTH} levels",
                None,
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def plain_value(tag: str, text: str) -> Any:
    """The value of a scalar that matches the pattern of its tag in ``CORE_TYPES``.

    Example:
        >>> plain_value(TAG + "int", "012"), plain_value(TAG + "float", "2e-4")
        (12, 0.0002)
    """
    match tag.removeprefix(TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case _:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def as_typed(value: Any) -> str:
    """A value as a recipe spells it, on one line.

    Example:
        >>> as_typed(None), as_typed(512.0), as_typed([True, "a"]), as_typed("2e-4")
        ('null', '512.0', '[true, a]', '"2e-4"')
    """
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            is_ambiguous = any(pattern.match(value) for _, pattern in CORE_TYPES)
            return f'"{value}"' if is_ambiguous else value
        case list() | tuple():
            return f"[{', '.join(map(_item, value))}]"
        case dict():
            return f"{{{', '.join(f'{_item(k)}: {_item(v)}' for k, v in value.items())}}}"
        case _:
            return _as_text(value)


def _item(value: Any) -> str:
    # One level is spelled as YAML; below it Python's own form is enough, and ends in a ring.
    return _as_text(value) if isinstance(value, (list, tuple, dict)) else as_typed(value)


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of more than 4300 digits
        return "a number with thousands of digits"


def printable(text: str, limit: int = 60) -> str:
    r"""Text for a message: short, on one line, nothing that a terminal would obey.

    Example:
        >>> print(printable("a\tb"))
        a\tb
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def plain_number(text: str) -> str | None:
    """The number that quoted or grouped digits were meant to be, or ``None``.

    Example:
        >>> plain_number("1_000"), plain_number("2e-4"), plain_number("many")
        ('1000', '2e-4', None)
    """
    plain = text.strip().replace("_", "").replace(",", "")
    numbers = [pattern for tag, pattern in CORE_TYPES if tag in {TAG + "int", TAG + "float"}]
    return plain if any(pattern.match(plain) for pattern in numbers) else None
