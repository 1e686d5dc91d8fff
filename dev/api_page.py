"""The public names of kft with their docstrings, as a page: docs/reference/python.md."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

HEAD = """# Python

Written by `make docs` from the docstrings of everything that `import kft` gives.
[From Python](../guides/python.md) shows them at work.
"""
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Example", "Source")
_ROLE = re.compile(r":(?:func|class|meth|data|attr):`[.~]?([^`]+)`")
_ITEM = re.compile(r"^( *)`?([\w*., |]+)`?: (.*)")


def python_page() -> str:
    """The page, as Markdown."""
    home = importlib.import_module("kft")
    parts = [HEAD]
    for name in home.__all__:
        parts += [f"\n## `kft.{name}`\n", *_described(getattr(home, name), name)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _described(found: Any, name: str) -> Iterator[str]:
    if not inspect.isclass(found):
        yield _call(name, found)
        yield _markdown(inspect.getdoc(found) or "")
        return
    yield _markdown(inspect.getdoc(found) or "")
    for member, value in vars(found).items():
        plain = getattr(value, "func", value)  # of a cached property
        plain = value.fget if isinstance(value, property) else plain
        if member.startswith(("_", "model_")) or not inspect.isfunction(plain):
            continue
        text = inspect.getdoc(plain)
        if text is None:
            continue
        is_call = inspect.isfunction(value)
        yield f"\n### `{name}.{member}`\n"
        if is_call:
            yield _call(member, value)
        yield _markdown(text)


def _call(name: str, function: Any) -> str:
    words = [str(parameter) for parameter in inspect.signature(function).parameters.values()]
    names = [parameter.split(":")[0].split("=")[0].strip() for parameter in words]
    shown = list(inspect.signature(function).parameters.values())
    lines: list[str] = []
    for parameter, word in zip(shown, names, strict=True):
        if word == "self":
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        lines.append(f"{word}{default}")
    return f"```python\n{name}({', '.join(lines)})\n```\n"


def _markdown(text: str) -> str:
    """A docstring of the house's form: its sections as headings and lists."""
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        title = line.rstrip(":")
        if line.endswith(":") and title in SECTIONS:
            section = title
            lines += [f"**{title}**", ""]
            if title == "Example":
                lines.append("```python")
        elif section and line and not line.startswith(" "):
            lines += _closed(section)
            section = ""
            lines.append(line)
        else:
            lines.append(_item(line[4:], section, lines[-1]) if section else line)
    return "\n".join([*lines, *_closed(section)]).strip() + "\n"


def _closed(section: str) -> list[str]:
    return ["```", ""] if section == "Example" else []


def _item(line: str, section: str, before: str) -> str:
    """An item of a section, one of a list inside it, or how the line before goes on."""
    if section not in ("Args", "Raises") or not line.strip():
        return line
    found = _ITEM.match(line)
    if found and (not found[1] or "`" in line[: len(found[1]) + 1]):
        return f"{'  ' if found[1] else ''}- `{found[2]}`: {found[3]}"
    inside = before.startswith(("  - ", "    "))
    return f"{'    ' if inside else '  '}{line.strip()}"
