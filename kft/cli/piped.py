"""Lines and words that come from outside: as UTF-8, or as CP949 where they are that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO, Any

from kft.errors import UsageError

_ENCODINGS = ("utf-8-sig", "cp949")


def stdin_lines() -> Iterator[str]:
    """Each line of stdin, decoded by itself.

    Raises:
        UsageError: Naming the line that is in neither encoding.
    """
    stream: IO[Any] = getattr(sys.stdin, "buffer", sys.stdin)
    for number, line in enumerate(stream, 1):
        yield line if isinstance(line, str) else _decoded(line, f"stdin, line {number}")


def as_text(word: str, where: str) -> str:
    """An argument that was typed or passed on; its bytes may be CP949.

    Raises:
        UsageError: If they are neither UTF-8 nor CP949.
    """
    return _decoded(word.encode("utf-8", "surrogateescape"), where)


def _decoded(raw: bytes, where: str) -> str:
    for encoding in _ENCODINGS:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UsageError(
        "The text can't be decoded",
        where=where,
        expected="UTF-8 or CP949",
        hint="`iconv -t utf-8` turns a text into UTF-8.",
    )
