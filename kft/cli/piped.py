"""Lines and words that come from outside: as UTF-8, or as CP949 where they are that."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from kft.errors import UsageError

_ENCODINGS = ("utf-8-sig", "cp949")


def stdin_lines() -> Iterator[str]:
    """Each line of stdin, decoded as it comes; after a line in CP949 that is tried first.

    Raises:
        UsageError: Naming the line that is in neither encoding.
    """
    stream: IO[Any] = getattr(sys.stdin, "buffer", sys.stdin)
    encodings = _ENCODINGS
    for number, line in enumerate(stream, 1):
        if isinstance(line, str):
            yield line
            continue
        text, used = _decoded(line, f"stdin, line {number}", encodings)
        if used != _ENCODINGS[0]:
            encodings = _ENCODINGS[::-1]
        yield text


def as_text(word: str, where: str) -> str:
    """An argument that was typed or passed on; its bytes may be CP949.

    Raises:
        UsageError: If they are neither UTF-8 nor CP949.
    """
    try:
        raw = word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as no bytes make it
        raw = b"\xff"
    return _decoded(raw, where, _ENCODINGS)[0]


def _decoded(raw: bytes, where: str, encodings: Sequence[str]) -> tuple[str, str]:
    """The text, and the encoding that it was in."""
    for encoding in encodings:
        try:
            return raw.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise UsageError(
        "The text can't be decoded",
        where=where,
        expected="UTF-8 or CP949",
        hint="`iconv -t utf-8` turns a text into UTF-8.",
    )
