"""Labels, scores and tags as files have them, and the names of the labels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kft.data.layouts import Layout, nearest_column
from kft.errors import DataError, name_list

LABELLED = ("classification", "pairs")
LABELS_HINT = "Name them in the order of their numbers, such as `data.labels: [부정, 긍정]`."
_FROM_ONE = (
    "Where the file's begin at 1, they are their own names, such as `data.labels: ['1', '2']`."
)
_NUMBER = re.compile(r"([+-]?[0-9]{1,9})(\.0+)?")
_SCORE = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ENDED = re.compile(r"(.+)[-_]([BIES])")  # `PER-B`, Naver's spelling of `B-PER`


def label_number(value: Any) -> int | None:
    """The number a label is, also as text or as a float that pandas made of it."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        return int(found[1]) if found else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) else None


def score(value: Any) -> float | None:
    """The finite number that a value is, also as text, or ``None``.

    Example:
        >>> score("4.750"), score(1), score("높음")
        (4.75, 1.0, None)
    """
    if isinstance(value, str):
        value = float(value) if _SCORE.fullmatch(value := value.strip()) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def tag_name(tag: str) -> str:
    """A tag with its position in front, as most spell it.

    Example:
        >>> tag_name("PER-B"), tag_name("B-OG"), tag_name("-")
        ('B-PER', 'B-OG', 'O')
    """
    if tag in ("-", ""):
        return "O"
    ended = None if tag[1:2] == "-" and tag[0] in "BIES" else _ENDED.fullmatch(tag)
    return f"{ended[2]}-{ended[1]}" if ended else tag


def names_of(
    cells: Iterable[tuple[Any, str]], layout: Layout, *, numbers_are_names: bool
) -> list[str]:
    """The distinct labels, sorted; tags by entity with ``O`` first.

    Args:
        cells: Each label, as cleaned text or a number, and its row's place.
        layout: Whose labels they are.
        numbers_are_names: Numbers name themselves.

    Returns:
        Names; none where the labels are scores: numbers that aren't all whole.

    Raises:
        DataError: If they are numbers, whose names nobody but the user knows.
    """
    names: set[str] = set()
    number: tuple[Any, str] | None = None
    is_score = False
    for value, place in cells:
        if (whole := label_number(value)) is not None or score(value) is not None:
            is_score = is_score or whole is None
            number = number or (value, place)
            names.update([str(whole)] if numbers_are_names and whole is not None else [])
        else:
            names.add(str(value))
    if is_score and not names - {name for name in names if _NUMBER.fullmatch(name)}:
        return []
    if number is not None and not numbers_are_names:
        raise DataError(
            f"Labels are numbers, such as `{number[0]}`, and have no names",
            where=number[1],
            expected="their names in `data.labels`",
            hint=LABELS_HINT,
        )
    return sorted(names, key=_tag_order if layout.format == "tokens" else _name_order)


def label_index(value: Any, name: str, names: Sequence[str], place: str) -> int:
    """Index of a label: a name first (labels may be called `1`, `2`), else a number.

    Args:
        value: The label as the file has it.
        name: The same as cleaned text.
        names: Of the labels, in the order of their numbers.
        place: ``file:line`` of the row.

    Raises:
        DataError: If there is no such name or number.
    """
    number = label_number(value)
    if name in names:
        return names.index(name)
    if not names and score(value) is not None:
        raise DataError(
            f"Label `{value}` is a score, and a class is learned",
            where=place,
            expected="labels with names, or a task that learns scores",
            hint="`task: sequence_regression` learns scores.",
        )
    if number is not None and not any(label_number(one) is not None for one in names):
        if 0 <= number < len(names):
            return number
        raise DataError(
            f"Label `{value}` has no name",
            where=place,
            expected=f"0 to {len(names) - 1}: {name_list(names)}" if names else "its name",
            hint=f"Labels count from 0. {_FROM_ONE if number == len(names) else LABELS_HINT}"
            if names
            else LABELS_HINT,
        )
    meant = nearest_column(name, names)
    raise DataError(
        f"Unknown label `{name}`",
        where=place,
        expected=f"one of {name_list(names, 12)}" if names else "names in `data.labels`",
        hint=f"Did you mean `{meant}`?"
        if meant
        else "Correct the row, or add the label to `data.labels`.",
    )


def _name_order(name: str) -> tuple[bool, int, str]:
    """Numbers by size and before words."""
    number = label_number(name)
    return number is None, number or 0, name


def _tag_order(tag: str) -> tuple[bool, str, str]:
    return tag != "O", tag.partition("-")[2], tag


def flags_of(cells: Iterable[tuple[str, Any]], place: str) -> Iterator[int]:
    """The numbers of the columns of 0 and 1 that hold 1.

    Raises:
        DataError: If a column holds something else.
    """
    for index, (column, value) in enumerate(cells):
        number = label_number(value)
        if number not in (0, 1):
            raise DataError(
                f"`{column}` is neither 0 nor 1, got `{value}`",
                where=place,
                expected="0 or 1 in every column of a label",
            )
        if number:
            yield index
