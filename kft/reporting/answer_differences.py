"""Two answers side by side: which parts of one the other hasn't."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

_UNITS = re.compile(r"\s+|[^\s]+")
MOST_CHARACTERS = 4000
"""Longer answers are cut: a page is for looking at."""


class Part(NamedTuple):
    """A piece of an answer.

    Args:
        text: As it stands in the answer.
        is_own: The other answer hasn't it.
    """

    text: str
    is_own: bool


def side_by_side(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Both answers in parts, compared eojeol by eojeol.

    Example:
        >>> before, after = side_by_side("날씨가 좋다", "날씨가 참 좋다")
        >>> [part.text for part in after if part.is_own]
        ['참 ']
    """
    left, right = (_UNITS.findall(_cut(text)) for text in (before, after))
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    parts: tuple[list[Part], list[Part]] = ([], [])
    for tag, first, last, other_first, other_last in matcher.get_opcodes():
        for side, units in enumerate((left[first:last], right[other_first:other_last])):
            if units:
                parts[side].append(Part("".join(units), tag != "equal"))
    return parts


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"
