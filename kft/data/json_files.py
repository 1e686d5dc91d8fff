"""Rows of json files: one object a line, one array, or an object whose `data` is one.

An array is decoded row by row from a window of the text, so that a file of one long line needs
no more memory than a short one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from kft.data.encodings import open_text
from kft.data.row import Row
from kft.data.sources import DataFile
from kft.errors import DataError

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")
_CHUNK = 2**18  # characters
_HEAD = 2**16  # characters in which the first line of a jsonl file should end
_LITERAL = 16  # characters; no number or word that is cut off is reported further from the end
_EXPECTED = "one JSON object per line, or one array of objects"


def jsonl_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a file with one object a line; blank lines are none. Also a file that is an array."""
    if is_array(file):
        yield from _stream_rows(file)
        return
    name = str(file)
    with open_text(file) as stream:
        for number, ended in enumerate(stream, start=1):
            line = ended.rstrip("\r\n")
            start = _skip_blank(line, 0)
            if start == len(line):
                continue
            value, end = _decode(line, start, name, number)
            end = _skip_blank(line, end)
            if end < len(line):
                raise _broken("Extra data", f"{name}:{number}", end + 1)
            place = f"{name}:{number}"
            yield Row(_object(value, place), place)


def json_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a file that is an array, or an object with a ``data`` list. Also of a jsonl file."""
    if _first_character(file) == "{" and _is_jsonl(file):
        yield from jsonl_rows(file)
    else:
        yield from _stream_rows(file)


def is_array(file: DataFile) -> bool:
    """Whether a json file is one array."""
    return _first_character(file) == "["


def _first_character(file: DataFile) -> str:
    with open_text(file) as stream:
        while head := stream.read(_HEAD):
            start = _skip_blank(head, 0)
            if start < len(head):
                return head[start]
    return ""


def _is_jsonl(file: DataFile) -> bool:
    """Whether the first line that isn't blank is a whole object, and more than blanks follow."""
    with open_text(file) as stream:
        line = "\n"
        while line and not line.strip():
            line = stream.readline(_HEAD)
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return False
        return any(rest.strip() for rest in iter(lambda: stream.read(_HEAD), ""))


def _stream_rows(file: DataFile) -> Iterator[Row]:
    with open_text(file) as stream:
        window = _Window(stream, str(file))
        first = window.peek()
        if first == "[":
            yield from _array_rows(window)
        elif first == "{":
            yield from _data_rows(window)
        elif first:
            window.value()
            raise _no_rows(window.name)
        if window.peek():
            raise window.broken("Extra data")


def _array_rows(window: _Window) -> Iterator[Row]:
    window.take()
    last_line = 0
    is_open = window.peek() != "]"
    while is_open:
        place = window.place(last_line)
        last_line = window.line
        yield Row(_object(window.value(), place), place)
        is_open = window.peek() == ","
        if is_open:
            window.take()
            window.peek()
    if window.peek() != "]":
        raise window.broken("Expecting ',' or ']'")
    window.take()


def _data_rows(window: _Window) -> Iterator[Row]:
    """Rows of an object's ``data``; what else the object holds is decoded and left."""
    window.take()
    has_rows = False
    is_open = window.peek() != "}"
    while is_open:
        if window.peek() != '"':
            raise window.broken("Expecting property name enclosed in double quotes")
        key = window.value()
        if window.peek() != ":":
            raise window.broken("Expecting ':' delimiter")
        window.take()
        if window.peek() == "[" and key == "data":
            has_rows = True
            yield from _array_rows(window)
        else:
            window.value()
        is_open = window.peek() == ","
        if is_open:
            window.take()
    if window.peek() != "}":
        raise window.broken("Expecting ',' or '}'")
    window.take()
    if not has_rows:
        raise _no_rows(window.name)


class _Window:
    """The part of a text that is being decoded; it grows while a value isn't complete."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.name = name
        self._stream = stream
        self._text = ""
        self._position = 0
        self._counted = 0  # up to here line breaks were counted
        self._line = 1
        self._column = 1  # of the character at `_counted`
        self._is_whole = False

    @property
    def line(self) -> int:
        """The line of the next character, counted from 1."""
        breaks = self._text.count("\n", self._counted, self._position)
        if breaks:
            self._line += breaks
            self._column = self._position - self._text.rfind("\n", 0, self._position)
        else:
            self._column += self._position - self._counted
        self._counted = self._position
        return self._line

    def place(self, last_line: int = 0) -> str:
        """``path:line``; with the column where ``last_line`` is the same line."""
        line = self.line
        return f"{self.name}:{line}:{self._column}" if line == last_line else f"{self.name}:{line}"

    def peek(self) -> str:
        """The next character that isn't blank, or nothing at the end."""
        while True:
            self._position = _skip_blank(self._text, self._position)
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._grow(_CHUNK):
                return ""

    def take(self) -> None:
        """Go past the next character."""
        self._position += 1

    def value(self) -> Any:
        """The JSON value that begins here."""
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or (
                    error.pos > len(self._text) - _LITERAL
                )
                if not is_cut or not self._grow(size):
                    raise self._broken_at(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self.broken(_too_much(error)) from error
            else:
                # A number that ends where the window ends may go on.
                if end < len(self._text) or not self._grow(size):
                    self._position = end
                    return value
            size *= 2

    def broken(self, why: str) -> DataError:
        """The error for what stands here."""
        return self._broken_at(why, self._position)

    def _broken_at(self, why: str, position: int) -> DataError:
        self._position = position
        return _broken(why, f"{self.name}:{self.line}", self._column)

    def _grow(self, size: int) -> bool:
        """Read on and forget what was decoded; whether there was more."""
        if self._is_whole:
            return False
        chunk = self._stream.read(size)
        if not chunk:
            self._is_whole = True
            return False
        _ = self.line  # counted before the breaks are gone
        self._text = self._text[self._position :] + chunk
        self._position = self._counted = 0
        return True


def _decode(text: str, position: int, name: str, line: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise _broken(error.msg, f"{name}:{line}", error.pos + 1) from error
    except (ValueError, RecursionError) as error:
        raise _broken(_too_much(error), f"{name}:{line}", position + 1) from error


def _too_much(error: Exception) -> str:
    """What Python's reader refuses though it is JSON."""
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    return "a number has too many digits"


def _broken(why: str, place: str, column: int) -> DataError:
    what = f"Broken JSON at column {column}: {why}"
    return DataError(what, where=place, expected=_EXPECTED)


def _no_rows(name: str) -> DataError:
    return DataError(
        "The file holds one value, not rows",
        where=name,
        expected="an array of objects, or an object whose `data` is one",
    )


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    shown = json.dumps(value, ensure_ascii=False)
    raise DataError(
        f"Row is not an object, got `{shown[:40]}{'...' if len(shown) > 40 else ''}`",
        where=place,
        expected='names and values in braces: `{"text": "..."}`',
    )


def _skip_blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position
