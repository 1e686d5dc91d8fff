"""A YAML file as plain values, with the line of everything that is written in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kft.errors import RecipeError
from kft.recipe.core_yaml import CORE_TYPES, TAG, RecipeLoader, Refused, plain_value
from kft.recipe.source import Location, Place, Source, read_text

_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOKALIKES = {
    "\u00a0": ("a non-breaking space", "a plain space"),
    "\u3000": ("a full-width space", "a plain space"),
    "\uff1a": ("a full-width colon", "`:`"),
}


@dataclass
class Document:
    """Plain values, and where each of them was written.

    Args:
        values: Mappings with text keys, lists, text, numbers, booleans and ``None``.
        places: By location, for example ``("data", "labels", 0)``; the whole is ``()``.
        name: The file's path, or the override.
    """

    values: Any
    places: dict[Location, Place]
    name: str


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Args:
        path: The file; relative to the current directory.

    Returns:
        Its values and their lines. An empty file has the value ``None``.

    Raises:
        RecipeError: If the file can't be read, is too large, isn't UTF-8,
            isn't YAML, has two documents, an anchor, a tag beyond the core types, or a key
            written twice.
    """
    source = Source(str(path))
    return parse(read_text(path, source), source)


def parse(text: str, source: Source) -> Document:
    """Read one YAML document.

    Args:
        text: The YAML.
        source: Where the text comes from, for messages and places.

    Returns:
        Its values and their places.

    Raises:
        RecipeError: As in :func:`read_document`.

    Example:
        >>> parse("{learning_rate: 2e-4, labels: [no, yes]}", Source("a.yaml")).values
        {'learning_rate': 0.0002, 'labels': ['no', 'yes']}
    """
    with _syntax_errors_told(text, source):
        loader = RecipeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    document = Document(None, {}, source.name)
    if node is not None:
        document.values = _Converter(source, document.places).convert(node, ())
    return document


@contextmanager
def _syntax_errors_told(text: str, source: Source) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise source.refuse(str(error.problem), line, error.expected, error.hint) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, source) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise source.refuse(
            f"The recipe has a control character (U+{ord(text[error.position]):04X})", line
        ) from error
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", beyond the last character
        raise source.refuse("The recipe has an escape that is no character", None) from error


def _syntax_error(error: yaml.MarkedYAMLError, text: str, source: Source) -> RecipeError:
    problem, context = error.problem or "it can't be parsed", error.context or ""
    mark = error.problem_mark
    unclosed = next((name for name in ("quote", "flow") if name in context), None)
    if unclosed and ("end of stream" in problem or "<stream end>" in problem):
        name = "quote" if unclosed == "quote" else "bracket"
        opened = error.context_mark or mark
        line = opened.line + 1 if opened else None
        return source.refuse(f"The {name} that opens here is never closed", line)
    line = mark.line + 1 if mark is not None else None
    if "'\\t'" in problem:
        return source.refuse("A tab stands where YAML wants spaces", line, "spaces")
    if "expected a single document" in context:
        return source.refuse("A second document begins (`---`)", line, "one recipe in a file")
    hint = _lookalike_hint(text, line) or _quote_hint(problem, context)
    return source.refuse(f"This isn't YAML: {problem}", line, hint=hint)


def _quote_hint(problem: str, context: str) -> str | None:
    if problem.startswith("mapping values"):
        return "Put a value that has `: ` in it in quotes."
    if "scanning an alias" in context or "scanning an anchor" in context:
        return "Put text that begins with `*` or `&` in quotes."
    found = re.fullmatch(r"found character '(.)' that cannot start any token", problem)
    return f"Put text that begins with `{found[1]}` in quotes." if found else None


def _lookalike_hint(text: str, line: int | None) -> str | None:
    if line is None:
        return None
    for number in (line, line - 1):  # PyYAML often notices one line late
        written = text.splitlines()[number - 1 : number] if number > 0 else []
        for character, (name, plain) in _LOOKALIKES.items():
            if written and character in written[0]:
                return f"Line {number} has {name}; write {plain}."
    return None


class _Converter:
    """Turns nodes into plain values and notes each one's place."""

    def __init__(self, source: Source, places: dict[Location, Place]) -> None:
        self.source = source
        self.places = places

    def convert(self, node: yaml.Node, location: Location, mark: Any = None) -> Any:
        """The value of ``node``; ``mark`` is where its key begins, if it has one."""
        mark = mark or node.start_mark
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"'):
            text = f'"{text}"'
        self.places[location] = self.source.place(mark.line + 1, mark.index, text)
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            return [self.convert(item, (*location, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._wrong_tag(node)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.source.refuse("A key is a list or a mapping", line, "a name")
            self._scalar(key_node)  # refuses tags and broken text; a key is its text
            key = key_node.value
            if key in values:
                path = ".".join(str(part) for part in (*location, key))
                first = f"it once; the first is on line {lines[key]}"
                raise self.source.refuse(f"Key `{path}` is written twice", line, first)
            lines[key] = line
            values[key] = self.convert(value_node, (*location, key), key_node.start_mark)
        return values

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        line = node.start_mark.line + 1
        if _SURROGATE.search(text):
            raise self.source.refuse("Text has half a surrogate pair (`\\ud800`)", line)
        if node.tag == TAG + "str":
            return text
        pattern = dict(CORE_TYPES).get(node.tag)
        if pattern is None:
            raise self._wrong_tag(node)
        try:
            return plain_value(node.tag, text) if pattern.match(text) else self._misfit(node)
        except ValueError as error:  # Python reads integers up to 4300 digits
            raise self.source.refuse("A number has too many digits", line) from error

    def _misfit(self, node: yaml.ScalarNode) -> Any:
        what = f"`{node.value}` doesn't fit its tag `!!{node.tag.removeprefix(TAG)}`"
        raise self.source.refuse(what, node.start_mark.line + 1, hint="Leave the tag out.")

    def _wrong_tag(self, node: yaml.Node) -> RecipeError:
        tag = node.tag.replace(TAG, "!!", 1)
        line = node.start_mark.line + 1
        hint = "Leave the tag out, or put text that begins with `!` in quotes."
        return self.source.refuse(f"Tag `{tag}` isn't part of a recipe", line, "plain values", hint)
